"""The resident trainer: torch, images and model kept warm in a process beside the connection."""
