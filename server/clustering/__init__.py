"""From the sites' centroids and sums to the federation's clusters."""
