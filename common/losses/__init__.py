"""Loss functions without state: tensors in, a scalar or a matrix out."""
