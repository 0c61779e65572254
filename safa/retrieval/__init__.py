"""Pairs to descriptors to ranks."""
