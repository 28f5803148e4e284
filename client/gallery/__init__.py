"""A page that shows the clusters of pictures that are here. It stays here: it loads and sends
nothing."""
