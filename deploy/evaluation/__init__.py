"""A finished run on pooled or federated data, for who holds it."""
