"""What a site concludes from its images: sums, counts, centroids."""
