"""Runs and times the real packed layouts on a GPU."""
