"""Measurements of speed: each prints its figures, and a ratio where both sides run in it."""
