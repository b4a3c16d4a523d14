"""Kernels to text: how a loop nest is cut for a device family, and its OpenCL C."""
