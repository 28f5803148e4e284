"""Centroids and k-means, as both ends use them."""
