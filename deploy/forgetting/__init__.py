"""Data taken back: `covey forget`, in this process or over a server's sites."""
