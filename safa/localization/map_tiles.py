"""Tiles cut out of a folder of Web Mercator map tiles: zoom/x/y.png, .jpg or .webp."""

import concurrent.futures
import contextlib
import functools
import io
import itertools
import os
import pathlib
import re

import cv2
import numpy as np
from PIL import Image

from safa.datasets.image_files import ImageError, by_pixels, image_size, name_image, read_image
from safa.localization.coordinates import LocalFrame, mercator_locations, mercator_pixels, mercator_resolution, unwrapped
from safa.localization.tile_source import Cut, SourceRecord, TileSource, grid_locations, read_tile
from safa.runtime.errors import UserError, first_few, first_line, shortened
from safa.runtime.files import read_file
from safa.runtime.worker_pool import available_cores

ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
RESOURCE = "tilemapresource.xml"  # that tools as gdal2tiles write beside tiles whose rows are counted from the south
DEEPEST = 24  # zoom; a pixel has less than a centimetre then
DECODED = 256  # map tiles that are kept, 50 MB: neighbouring cuts share them
MASK_SIDE = 32  # points along a map tile's side where its transparency is kept


def zooms_in(folder):
    """The zooms whose folders a folder holds, in order."""
    names = [entry.name for entry in os.scandir(folder) if entry.name.isdecimal() and entry.is_dir()]
    return sorted(int(name) for name in names if int(name) <= DEEPEST)


class MapTiles(TileSource):
    """North-up tiles, cut out of Web Mercator map tiles on a grid.

    A cut's ground size is exact at its own latitude. Its centre lies between pixels, so its location is exact too. What is
    transparent is not imagery. Arguments and errors are those of `open_tiles.open_tile_source`.
    """

    def __init__(self, folder: str, cut: Cut, zoom: int | None, tms: bool, skip_missing: bool = False):
        zooms, has_resource = zooms_in(folder), _has_resource(folder)
        self._zoom = zoom = zooms[-1] if zoom is None else zoom
        if zoom not in zooms:
            raise UserError(f"--zoom {zoom}: {folder} has {', '.join(map(str, zooms))}; choose one of these")
        files = _files(os.path.join(folder, str(zoom)), zoom, tms or has_resource)
        self._side, self._files, self._masks, left_out = _usable(folder, files, skip_missing)
        corners = mercator_locations([(x + far, y + far) for x, y in self._files for far in (0, 1)], zoom, 1)
        west = unwrapped(corners[::2], LocalFrame.around(corners[::2]).centre[0])[:, 0]
        south, north = np.percentile(corners[:, 1], (0, 100)).tolist()
        box = float(west.min()), south, float(west.max()) + 360 / 2**zoom, north
        centres, made = grid_locations(box, cut, self._covered, folder)
        # Between pixels, and half a cut in pixels of the map tiles.
        self._centres = np.round(mercator_pixels(centres, zoom, self._side)).astype(np.int64)
        self.locations = mercator_locations(self._centres, zoom, self._side)
        metres_a_pixel = mercator_resolution(self.locations[:, 1], zoom, self._side)
        if (coarsest := metres_a_pixel.max()) > cut.spacing:  # several centres would be one
            problem = f"{coarsest:.3g} m a pixel, more than --spacing {cut.spacing:g}"
            raise UserError(f"{folder}: its zoom {zoom} has {problem}; choose a deeper zoom, or a larger spacing")
        self._halves, self._pixels = np.maximum(1, np.round(cut.metres / metres_a_pixel / 2)).astype(np.int64), cut.pixels
        self.metres = np.full(len(centres), cut.metres)
        self.names = [f"{zoom}/{right}/{down}" for right, down in self._centres.tolist()]
        self.paths = [self.files(row)[0] for row in range(len(centres))]
        self.record = SourceRecord("map tiles", made, zoom, tms or has_resource)
        size = f"{np.median(metres_a_pixel):.3f} m a pixel, cut to {cut.metres:g} m and {cut.pixels} pixels"
        rows = f", rows counted from the south as {RESOURCE if has_resource else '--tms'} says" * (tms or has_resource)
        self.notes = [f"map tiles of zoom {zoom}: {size}{rows}"]
        if left_out:
            self.notes.append(f"{left_out:,} map tiles cannot be read and are left out")
        self._read = functools.lru_cache(DECODED)(self._read)

    def _covered(self, locations):
        pixels = mercator_pixels(locations, self._zoom, 1)
        squares = np.floor(pixels).astype(np.int64)
        points = ((pixels - squares) * MASK_SIDE).astype(np.int64)
        masks = [self._masks.get((column % 2**self._zoom, row), False) for column, row in squares.tolist()]
        places = zip(masks, points.tolist(), strict=True)
        return np.array([mask if isinstance(mask, bool) else mask[down, right] for mask, (right, down) in places], bool)

    def _parts(self, row):
        """The map tiles of a row, the one with its centre first: path, and its corner's column and row in the cut."""
        (right, down), half, side = self._centres[row].tolist(), int(self._halves[row]), self._side
        columns, rows = (range((middle - half) // side, (middle + half - 1) // side + 1) for middle in (right, down))
        squares = sorted(itertools.product(columns, rows), key=lambda square: square != (right // side, down // side))
        paths = [self._files.get((x % 2**self._zoom, y)) for x, y in squares]  # None at the edge, by a rounded pixel
        corners = [(x * side - right + half, y * side - down + half) for x, y in squares]
        return [(path, corner) for path, corner in zip(paths, corners, strict=True) if path is not None]

    def _read(self, path):
        return read_tile(path, (self._side, self._side), _read_webp if path.lower().endswith(".webp") else read_image)

    def files(self, row):
        return [path for path, _ in self._parts(row)]

    def tile(self, row):
        size, pixels = 2 * int(self._halves[row]), self._pixels
        image = Image.new("RGB", (size, size))
        for path, corner in self._parts(row):
            image.paste(Image.fromarray(self._read(path)), corner)
        interpolation = cv2.INTER_AREA if pixels < size else cv2.INTER_LINEAR
        return cv2.resize(np.asarray(image), (pixels, pixels), interpolation=interpolation)


def _has_resource(folder):
    """Whether a folder has a RESOURCE; a UserError if that is of tiles in another projection."""
    path = os.path.join(folder, RESOURCE)
    if not os.path.lexists(path):
        return False
    profile = re.search(rb'<TileSets[^>]*profile="([^"]*)"', read_file(path, 2**16))
    if profile is not None and b"mercator" not in profile[1]:
        name = shortened(profile[1].decode(errors="replace"))
        raise UserError(f"{path}: tiles of the profile {name}, not Web Mercator; cut them with gdal2tiles --profile=mercator")
    return True


def _files(folder, zoom, tms):
    """{(column, row): path} of the map tiles of a zoom; rows counted from the north."""
    files, count = {}, 2**zoom
    for path in sorted(pathlib.Path(folder).glob("*/*")):
        names = path.parent.name, path.stem.removesuffix("@2x")
        if path.suffix.lower() in ENDINGS and all(name.isdecimal() and int(name) < count for name in names):
            column, row = map(int, names)
            place = column, count - 1 - row if tms else row
            if place in files:
                raise UserError(f"{files[place]}: {path.name} beside it is the same map tile; move one of them away")
            files[place] = str(path)
    if not files:
        raise UserError(f"{folder}: holds no map tiles (x/y{', x/y'.join(ENDINGS)}); name a folder of zoom/x/y tiles")
    return files


def _usable(folder, files, skip_missing):
    """Side of the map tiles in pixels, {place: path} of those with imagery, {place: mask} of these, number of unusable ones."""
    with concurrent.futures.ThreadPoolExecutor(4 * available_cores()) as pool:
        found = list(pool.map(_size_and_mask, files.values()))
    sizes = [each[0] for each in found if not isinstance(each, ImageError)]
    size = max(set(sizes), key=sizes.count, default=(0, 0))
    masks, wrong = {}, []
    for (place, path), each in zip(files.items(), found, strict=True):
        if isinstance(each, ImageError):
            wrong.append(each)
        elif each[0] != size or size[0] != size[1]:
            wrong.append(f"{path}: {by_pixels(each[0])} pixels, and most have {by_pixels(size)}; map tiles are square")
        elif np.any(each[1]):
            masks[place] = each[1]
    if wrong and not (skip_missing and masks):
        remedy = "replace them" + ", or use --skip_missing to leave them out" * (not skip_missing)
        raise UserError(f"{folder}: {len(wrong):,} of {len(files):,} map tiles cannot be used: {first_few(wrong)}; {remedy}")
    if not masks:
        raise UserError(f"{folder}: all {len(files):,} map tiles are transparent; name a folder with imagery")
    return size[0], {place: files[place] for place in masks}, masks, len(wrong)


@contextlib.contextmanager
def _pillow_image(path):
    """The PIL.Image of a map tile; whatever goes wrong inside is an ImageError."""
    try:
        with name_image(path), Image.open(io.BytesIO(read_file(path))) as image:
            yield image
    except ImageError:
        raise
    except Exception as error:  # whatever broken bytes lead Pillow to
        raise ImageError(f"{shortened(path)}: damaged ({first_line(error)})") from None


def _size_and_mask(path):
    """(height, width) of a map tile, and where it is not transparent: True or (MASK_SIDE, MASK_SIDE) bool; or an ImageError."""
    try:
        size = None if path.lower().endswith(".webp") else image_size(path)
        if path.lower().endswith((".jpg", ".jpeg")):
            return size, True
        with _pillow_image(path) as image:
            if not image.has_transparency_data:
                return image.size[::-1], True
            alpha = np.asarray(image.convert("RGBA"))[..., 3] > 0
    except ImageError as error:
        return error
    down, right = ((np.arange(MASK_SIDE) * 2 + 1) * side // (2 * MASK_SIDE) for side in alpha.shape)
    return alpha.shape, bool(alpha.all()) or alpha[np.ix_(down, right)]


def _read_webp(path, size):
    with _pillow_image(path) as image:
        if image.size[::-1] != size:
            raise ImageError(f"{shortened(path)}: {by_pixels(image.size[::-1])} pixels instead of {by_pixels(size)}")
        return np.asarray(image.convert("RGB"))[..., ::-1]
