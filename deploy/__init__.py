"""How a federation is started: the `covey` command, certificates, processes."""
