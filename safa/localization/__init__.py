"""Panoramas to places: tiles with positions become an index, and panoramas are searched for in it."""
