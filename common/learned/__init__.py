"""What a run has learned, as one file: `model.covey`. Imports no torch."""
