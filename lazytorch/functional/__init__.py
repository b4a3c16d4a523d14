"""The functions of the torch namespace: compositions of primitives in plain Python."""
