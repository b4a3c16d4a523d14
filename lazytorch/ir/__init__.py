"""What a graph is: values to be computed, kernels as data, and the algebra between them."""
