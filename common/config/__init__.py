"""What a run is asked to do: options, recipes, and whether they go together."""
