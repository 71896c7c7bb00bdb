"""Runs and times the real layouts on a GPU (not yet written)."""
