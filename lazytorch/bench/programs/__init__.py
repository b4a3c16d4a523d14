"""The programs of the workloads: once for what looks like PyTorch, once for each other library."""
