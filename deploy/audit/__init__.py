"""Whether a run has forgotten what it was told to forget, where all images are on this machine.

Nothing here forgets: it compares a run, the one that was made in its place, and runs that never had
the images.
"""
