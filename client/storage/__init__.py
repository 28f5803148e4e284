"""What a site keeps: its states, its assignments, the log of what left, who was in a run."""
