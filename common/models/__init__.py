"""Networks: encoders, normalisation, a forward pass at few bits."""
