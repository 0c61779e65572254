"""Tiles of a CSV list: an image file each, with its location."""

import concurrent.futures
import os

import numpy as np

from safa.datasets.image_files import ImageError, ImageMissing, by_pixels, image_size, read_image
from safa.localization.located_files import read_located_files
from safa.localization.tile_source import TileSource
from safa.runtime.errors import UserError, first_few
from safa.runtime.worker_pool import available_cores


class ListedTiles(TileSource):
    """The tiles of a CSV list, in its order (`located_files.read_located_files`).

    Args:
        path: of the list.
        skip_missing: leave out rows whose files do not exist.

    Raises:
        UserError: the list is wrong, or files are missing, broken or not square.
    """

    def __init__(self, path, skip_missing=False):
        listed = read_located_files(path, needs_locations=True)
        with concurrent.futures.ThreadPoolExecutor(4 * available_cores()) as pool:
            problems = list(pool.map(_problem, listed.paths))
        missing = [number for number, problem in enumerate(problems) if isinstance(problem, ImageMissing)]
        wrong = [problem for problem in problems if problem and not (skip_missing and isinstance(problem, ImageMissing))]
        if wrong:
            skip = "; replace them, or use --skip_missing to leave missing ones out" if missing else "; replace them"
            raise UserError(f"{path}: {len(wrong):,} of {len(problems):,} tiles cannot be used: {first_few(wrong)}{skip}")
        kept = np.array([number for number, problem in enumerate(problems) if not problem], np.int64)
        if not len(kept):
            raise UserError(f"{path}: none of its {len(problems):,} files exists; check the paths, which start in its folder")
        self.paths = [listed.paths[number] for number in kept]
        self.locations = listed.locations[kept]
        self.metres = None if listed.metres is None else listed.metres[kept]
        self.names = [os.path.relpath(each, os.path.dirname(path) or ".") for each in self.paths]
        skipped = len(problems) - len(kept)
        self.note = f"{skipped:,} tiles of the list do not exist and are left out" if skipped else None
        self.record = {"kind": "list", "paths": [os.path.abspath(path)]}

    def tile(self, row):
        try:
            return read_image(self.paths[row])
        except ImageError as error:
            raise UserError(f"{error}; replace the file, and run the same command again") from None


def _problem(path):
    """What is wrong with a tile as far as its header tells: an ImageError, or None."""
    try:
        size = image_size(path)
    except ImageError as error:
        return error
    return None if size[0] == size[1] else ImageError(f"{path}: {by_pixels(size)} pixels are not square")
