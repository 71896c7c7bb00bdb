"""Prices shapes and configs: cycles, seconds, energy, area. Needs no weights and loads no torch."""
