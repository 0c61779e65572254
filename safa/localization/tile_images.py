"""Tiles as the satellite branch takes them, made on the fly, and thumbnails of them."""

import contextlib
import hashlib

import cv2
import numpy as np
import simplejpeg

from safa.datasets.preparation import polar_map
from safa.localization.tile_source import TileSource
from safa.settings import NetworkConfig

THUMBNAIL_SIDE = 128  # pixels
THUMBNAIL_BYTES = 6144  # of a thumbnail's place in its file, so that it is found without a list
DIGEST_BYTES = 16  # of a tile's files, and of its pixels
RECORD_BYTES = 2 * DIGEST_BYTES + 1  # both, and whether the tile has one colour
ONE_COLOUR = 8  # grey levels between a tile's darkest and brightest pixel that a JPEG of one colour may have
JPEG_QUALITIES = (85, 70, 50, 30, 10, 0)  # the first that fits is taken


class TileImages:
    """The images of an index's tiles, as `input_data.image_batches` reads them.

    Args:
        stretch: polar maps are min-max stretched, as the paper's.
        records: (N, RECORD_BYTES) uint8 that takes the digest of each tile that is read, and whether it has one colour.
        thumbnails: (N, THUMBNAIL_BYTES) uint8 that takes a thumbnail of each tile that is read, or None.
    """

    dtype = np.uint8

    def __init__(self, source: TileSource, network: NetworkConfig, stretch: bool, records, thumbnails=None):
        self.paths, self.shape = source.paths, network.sat_shape
        self._source, self._network, self._stretch = source, network, stretch
        self._records, self._thumbnails = records, thumbnails

    def read(self, row):
        """The image of a row: (*shape, 3) uint8, BGR. Raises UserError if the tile cannot be read."""
        tile = self._source.tile(row)
        self._records[row, DIGEST_BYTES:-1] = np.frombuffer(tile_digest(tile), np.uint8)
        self._records[row, -1] = max(np.ptp(tile[..., colour]) for colour in range(3)) <= ONE_COLOUR
        if self._thumbnails is not None:
            self._thumbnails[row] = encoded_thumbnail(tile)
        image = polar_map(tile, self._stretch) if self._network.polar else tile
        if image.shape[:2] != self.shape:
            image = cv2.resize(image, self.shape[::-1], interpolation=cv2.INTER_AREA)
        return image


def tile_digest(tile):
    """DIGEST_BYTES bytes that tell a tile, (S, S, 3) uint8, from others."""
    return hashlib.blake2b(np.ascontiguousarray(tile), digest_size=DIGEST_BYTES).digest()


def encoded_thumbnail(tile):
    """A small JPEG of a tile in a place of fixed size: (S, S, 3) uint8 -> (THUMBNAIL_BYTES,) uint8, filled up with zeros."""
    small = cv2.resize(tile, (THUMBNAIL_SIDE, THUMBNAIL_SIDE), interpolation=cv2.INTER_AREA)
    contents = (cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, quality])[1] for quality in JPEG_QUALITIES)
    content = next((content for content in contents if len(content) <= THUMBNAIL_BYTES), [])
    return np.pad(np.array(content, np.uint8), (0, THUMBNAIL_BYTES - len(content)))


def decoded_thumbnail(place):
    """The tile of such a place: (THUMBNAIL_SIDE, THUMBNAIL_SIDE, 3) uint8, BGR; None if it is missing or damaged."""
    with contextlib.suppress(ValueError, LookupError):  # whatever broken bytes lead the decoder to
        if simplejpeg.decode_jpeg_header(place)[:2] == (THUMBNAIL_SIDE, THUMBNAIL_SIDE):
            return simplejpeg.decode_jpeg(place, "BGR")
    return None
