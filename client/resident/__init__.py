"""The resident trainer: torch, data and model kept warm beside a SuperNode, behind a socket."""
