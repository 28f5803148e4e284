"""What a coordinator starts: a server, its front, its runs."""
