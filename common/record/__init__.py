"""A run's record: `run.json` and `metrics.jsonl`, their schema, their one reader and one writer.

Nothing else opens these files. It imports no torch: the command line reads it.
"""
