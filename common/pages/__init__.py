"""What all pages of HTML share: the colours, and how a template of ours is filled."""
