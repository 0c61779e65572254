"""Tiles cut out of a folder of Web Mercator map tiles: zoom/x/y.png, or .jpg."""

import functools
import os
import pathlib

import cv2
import numpy as np
from PIL import Image

from safa.datasets.image_files import by_pixels
from safa.localization.coordinates import mercator_locations, mercator_pixels, mercator_resolution
from safa.localization.tile_source import Cut, TileSource, grid_locations, read_tile
from safa.runtime.errors import UserError

ENDINGS = (".png", ".jpg", ".jpeg")
DEEPEST = 24  # zoom; a pixel has less than a centimetre then
DECODED = 256  # map tiles that are kept, 50 MB: neighbouring cuts share them


def zooms_in(folder):
    """The zooms whose folders a folder holds, in order."""
    names = [entry.name for entry in os.scandir(folder) if entry.name.isdecimal() and entry.is_dir()]
    return sorted(int(name) for name in names if int(name) <= DEEPEST)


class MapTiles(TileSource):
    """North-up tiles, cut out of Web Mercator map tiles on a grid.

    A cut's ground size is exact at its own latitude. Its centre lies between pixels, so its location is exact too.
    Arguments are those of `open_tiles.open_tile_source`.

    Raises:
        UserError: the folder holds no such tiles, or lacks this zoom.
    """

    def __init__(self, folder: str, cut: Cut, zoom: int | None, tms: bool):
        zooms = zooms_in(folder)
        zoom = zooms[-1] if zoom is None else zoom
        if zoom not in zooms:
            raise UserError(f"--zoom {zoom}: {folder} has {', '.join(map(str, zooms))}; choose one of these")
        self._zoom, self._files = zoom, _files(os.path.join(folder, str(zoom)), zoom, tms)
        first = next(iter(self._files.values()))
        size = read_tile(first).shape[:2]
        if size[0] != size[1]:
            raise UserError(f"{first}: {by_pixels(size)} pixels, and map tiles are square; name a folder of map tiles")
        self._side, self._cut = size[0], cut
        columns, rows = np.array(list(self._files)).T
        west, north = mercator_locations((columns.min(), rows.min()), zoom, 1)[0]
        east, south = mercator_locations((columns.max() + 1, rows.max() + 1), zoom, 1)[0]
        centres = grid_locations((west, south, east, north), cut, self._covered, folder)
        self._centres = np.round(mercator_pixels(centres, zoom, self._side)).astype(np.int64)
        self.locations = mercator_locations(self._centres, zoom, self._side)
        self.metres = np.full(len(centres), cut.metres)
        self.names = [f"{zoom}/{right}/{down}" for right, down in self._centres.tolist()]
        self.paths = [self._files[right // self._side, down // self._side] for right, down in self._centres.tolist()]
        self.record = {"kind": "map tiles", "paths": [os.path.abspath(folder)], "zoom": zoom, "tms": tms, "pixels": cut.pixels}
        metres_a_pixel = mercator_resolution(float(np.median(self.locations[:, 1])), zoom) * 256 / self._side
        self.note = f"map tiles of zoom {zoom}: {metres_a_pixel:.3f} m a pixel, cut to {cut.metres:g} m and {cut.pixels} pixels"
        self._read = functools.lru_cache(DECODED)(functools.partial(read_tile, size=size))

    def _covered(self, locations):
        squares = np.floor(mercator_pixels(locations, self._zoom, 1)).astype(np.int64)
        return np.array([tuple(square) in self._files for square in squares.tolist()], bool)

    def tile(self, row):
        (right, down), side = self._centres[row].tolist(), self._side
        metres_a_pixel = mercator_resolution(self.locations[row, 1], self._zoom) * 256 / side
        half = max(1, round(self._cut.metres / metres_a_pixel / 2))
        image, left, top = Image.new("RGB", (2 * half, 2 * half)), right - half, down - half
        for column in range(left // side, (right + half - 1) // side + 1):
            for line in range(top // side, (down + half - 1) // side + 1):
                path = self._files.get((column, line))  # None at the edge, by a rounded pixel
                if path is not None:
                    image.paste(Image.fromarray(self._read(path)), (column * side - left, line * side - top))
        image = np.asarray(image)
        pixels = self._cut.pixels
        return cv2.resize(image, (pixels, pixels), interpolation=cv2.INTER_AREA if pixels < 2 * half else cv2.INTER_LINEAR)


def _files(folder, zoom, tms):
    """{(column, row): path} of the map tiles of a zoom; rows counted from the north."""
    files, count = {}, 2**zoom
    for path in pathlib.Path(folder).glob("*/*"):
        names = path.parent.name, path.stem
        if path.suffix.lower() in ENDINGS and all(name.isdecimal() and int(name) < count for name in names):
            column, row = map(int, names)
            files[column, count - 1 - row if tms else row] = str(path)
    if not files:
        raise UserError(f"{folder}: holds no map tiles (x/y{', x/y'.join(ENDINGS)}); name a folder of zoom/x/y tiles")
    return files
