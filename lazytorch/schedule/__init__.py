"""From a graph of operations to few kernels and a plan; knows no device and no C."""
