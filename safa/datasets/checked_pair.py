"""What the files of one pair tell: whether they can be read, what they are, whether prepared ones are what they should be."""

import dataclasses
import hashlib
import os

import numpy as np
import PIL.Image

from safa.datasets.image_files import ImageError, read_image
from safa.datasets.orientation import ground_colours
from safa.datasets.preparation import polar_map
from safa.runtime.files import read_file


@dataclasses.dataclass(frozen=True)
class CheckedFile:
    """What an image file tells.

    Attributes:
        path: of the file.
        missing: whether it does not exist.
        error: why it cannot be read, or None.
        size: (height, width), or None where it cannot be read.
        mode: Pillow's name of its pixels: "RGB", "L" (grey-scale), "CMYK", for instance; None where it cannot be read.
        digest: of the file's bytes, or None.
    """

    path: str
    missing: bool = False
    error: str | None = None
    size: tuple[int, int] | None = None
    mode: str | None = None
    digest: bytes | None = None


@dataclasses.dataclass(frozen=True)
class CheckedPair:
    """What the files of one pair tell.

    Attributes:
        tile, panorama, polar_map: CheckedFile.
        prepared_panorama: CheckedFile, or None where panoramas are read as they are.
        origin: how the polar map was made: "published", "unstretched", "other", or None where it cannot be told.
        panorama_agrees: whether the prepared panorama is made from the panorama; None where it cannot be told.
        colours: (2, rows, columns, 3) float32 of the polar map and the panorama, or None.
    """

    tile: CheckedFile
    panorama: CheckedFile
    polar_map: CheckedFile
    prepared_panorama: CheckedFile | None
    origin: str | None
    panorama_agrees: bool | None
    colours: np.ndarray | None


def check_pair(prepare_panorama, files):
    """All that the files of one pair tell; the function of a worker process.

    Args:
        prepare_panorama: how a panorama is prepared (`preparation.street_view`); None: it is not.
        files: dataset.PairFiles.

    Returns:
        CheckedPair.
    """
    tile_file, tile = _read(files.tile)
    panorama_file, panorama = _read(files.panorama)
    polar_file, polar = _read(files.polar_map)
    prepared_file, prepared = (None, None) if files.prepared_panorama is None else _read(files.prepared_panorama)
    origin = agrees = colours = None
    if tile is not None and tile.shape[0] == tile.shape[1]:
        expected = polar_map(tile)
        if polar is None:
            polar = expected
        elif np.array_equal(polar, expected):
            origin = "published"
        else:
            origin = "unstretched" if np.array_equal(polar, polar_map(tile, stretch=False)) else "other"
    if prepare_panorama is not None and panorama is not None and panorama.shape[1] == 2 * panorama.shape[0]:
        panorama = prepare_panorama(panorama)
        agrees = None if prepared is None else np.array_equal(prepared, panorama)
    if polar is not None and panorama is not None:
        colours = np.stack([ground_colours(polar), ground_colours(panorama)])
    return CheckedPair(tile_file, panorama_file, polar_file, prepared_file, origin, agrees, colours)


def _read(path):
    """A path's CheckedFile and image; None where it cannot be read."""
    if not os.path.exists(path):
        return CheckedFile(path, missing=True), None
    try:
        image = read_image(path)
    except ImageError as error:
        return CheckedFile(path, error=str(error)), None
    digest = hashlib.blake2b(read_file(path), digest_size=16).digest()
    with PIL.Image.open(path) as header:
        return CheckedFile(path, size=image.shape[:2], mode=header.mode, digest=digest), image
