"""Tiles as the satellite branch takes them, made on the fly, and thumbnails of them."""

import cv2
import numpy as np

from safa.datasets.preparation import polar_map
from safa.localization.tile_source import TileSource
from safa.settings import NetworkConfig

THUMBNAIL_SIDE = 128  # pixels
THUMBNAIL_BYTES = 6144  # of a thumbnail's place in its file, so that it is found without a list
JPEG_QUALITIES = (85, 70, 50, 30, 10, 0)  # the first that fits is taken


class TileImages:
    """The images of an index's tiles, as `input_data.image_batches` reads them.

    Args:
        stretch: whether polar maps are min-max stretched, as the paper's.
        thumbnails: (N, THUMBNAIL_BYTES) uint8 that takes a thumbnail of each tile that is read, or None.
    """

    dtype = np.uint8

    def __init__(self, source: TileSource, network: NetworkConfig, stretch: bool, thumbnails: np.ndarray | None = None):
        self.paths, self.shape = source.paths, network.sat_shape
        self._source, self._network, self._stretch, self._thumbnails = source, network, stretch, thumbnails

    def read(self, row):
        """The image of a row: (*shape, 3) uint8, BGR. Raises UserError if the tile cannot be read."""
        tile = self._source.tile(row)
        if self._thumbnails is not None:
            self._thumbnails[row] = encoded_thumbnail(tile)
        image = polar_map(tile, self._stretch) if self._network.polar else tile
        if image.shape[:2] != self.shape:
            image = cv2.resize(image, self.shape[::-1], interpolation=cv2.INTER_AREA)
        return image


def encoded_thumbnail(tile):
    """A small JPEG of a tile in a place of fixed size: (S, S, 3) uint8 -> (THUMBNAIL_BYTES,) uint8, filled up with zeros."""
    small = cv2.resize(tile, (THUMBNAIL_SIDE, THUMBNAIL_SIDE), interpolation=cv2.INTER_AREA)
    place = np.zeros(THUMBNAIL_BYTES, np.uint8)
    for quality in JPEG_QUALITIES:
        content = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        if len(content) <= THUMBNAIL_BYTES:
            place[: len(content)] = content
            break
    return place


def decoded_thumbnail(place):
    """The tile of such a place: (THUMBNAIL_SIDE, THUMBNAIL_SIDE, 3) uint8, BGR; None if it is missing."""
    return cv2.imdecode(np.asarray(place), cv2.IMREAD_COLOR) if place.any() else None
