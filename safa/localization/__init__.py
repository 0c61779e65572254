"""Panoramas to places: tiles with locations become an index, and panoramas are searched for in it."""

from safa.localization.index import Index
from safa.localization.joined_index import JoinedIndex

__all__ = ["Index", "JoinedIndex"]
