"""A run on disk: its folder, its events."""
