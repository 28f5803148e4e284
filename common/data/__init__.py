"""Data sets, as whole arrays in memory."""
