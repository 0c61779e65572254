"""Tiles cut out of a folder of Web Mercator map tiles: zoom/x/y.png, .jpg or .webp."""

import concurrent.futures
import functools
import io
import os
import pathlib
import re

import cv2
import numpy as np
from PIL import Image

from safa.datasets.image_files import ImageError, by_pixels, image_size, name_image
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
    transparent is not imagery. Arguments are those of `open_tiles.open_tile_source`.

    Raises:
        UserError: the folder holds no such tiles, or lacks this zoom; or map tiles cannot be read.
    """

    def __init__(self, folder: str, cut: Cut, zoom: int | None, tms: bool, skip_missing: bool = False):
        zooms, from_south = zooms_in(folder), tms or _has_resource(folder)
        zoom = zooms[-1] if zoom is None else zoom
        if zoom not in zooms:
            raise UserError(f"--zoom {zoom}: {folder} has {', '.join(map(str, zooms))}; choose one of these")
        self._zoom, self._cut, self._count = zoom, cut, 2**zoom
        files = _files(os.path.join(folder, str(zoom)), zoom, from_south)
        self._side, self._files, self._masks, left_out = _usable(folder, files, skip_missing)
        west_north = mercator_locations(list(self._files), zoom, 1)
        west_north[:, 0] = unwrapped(west_north[:, 0], LocalFrame.around(west_north).centre[0])
        south = mercator_locations([(0, max(row for _, row in self._files) + 1)], zoom, 1)[0, 1]
        (west, _), (east, north) = west_north.min(axis=0), west_north.max(axis=0)
        box = float(west), float(south), float(east) + 360 / self._count, float(north)
        centres, grid = grid_locations(box, cut, self._covered, folder)
        self._centres = np.round(mercator_pixels(centres, zoom, self._side)).astype(np.int64)
        self.locations = mercator_locations(self._centres, zoom, self._side)
        self.metres = np.full(len(centres), cut.metres)
        self.names = [f"{zoom}/{right}/{down}" for right, down in self._centres.tolist()]
        self.paths = [next(iter(self._parts(row)))[0] for row in range(len(centres))]
        sizes = {"metres": cut.metres, "spacing": cut.spacing, "grid": grid}
        self.record = SourceRecord("map tiles", cut.pixels, zoom, from_south, **sizes)
        metres_a_pixel = mercator_resolution(float(np.median(self.locations[:, 1])), zoom) * 256 / self._side
        size = f"{metres_a_pixel:.3f} m a pixel, cut to {cut.metres:g} m and {cut.pixels} pixels"
        rows = ", rows counted from the south" + f" as {RESOURCE} says" * (not tms) if from_south else ""
        self.notes = [f"map tiles of zoom {zoom}: {size}{rows}"]
        if left_out:
            self.notes.append(f"{left_out:,} map tiles cannot be read and are left out")
        self._read = functools.lru_cache(DECODED)(functools.partial(_read, size=(self._side, self._side)))

    def _covered(self, locations):
        pixels = mercator_pixels(locations, self._zoom, 1)
        squares = np.floor(pixels).astype(np.int64)
        points = ((pixels - squares) * MASK_SIDE).astype(np.int64)
        masks = [self._masks.get((column % self._count, row), False) for column, row in squares.tolist()]
        places = zip(masks, points.tolist(), strict=True)
        return np.array([mask if isinstance(mask, bool) else mask[down, right] for mask, (right, down) in places], bool)

    def _parts(self, row):
        """Yield the map tiles of a row, the one with its centre first: path, and its corner's column and row in the cut."""
        (right, down), side, half = self._centres[row].tolist(), self._side, self._half(row)
        corners = [
            (column, line)
            for column in range((right - half) // side, (right + half - 1) // side + 1)
            for line in range((down - half) // side, (down + half - 1) // side + 1)
        ]
        for column, line in sorted(corners, key=lambda corner: corner != (right // side, down // side)):
            path = self._files.get((column % self._count, line))  # None at the edge, by a rounded pixel
            if path is not None:
                yield path, (column * side - right + half, line * side - down + half)

    def _half(self, row):
        """Map tiles' pixels in half a cut."""
        metres_a_pixel = mercator_resolution(self.locations[row, 1], self._zoom) * 256 / self._side
        return max(1, round(self._cut.metres / metres_a_pixel / 2))

    def files(self, row):
        return [path for path, _ in self._parts(row)]

    def tile(self, row):
        half, pixels = self._half(row), self._cut.pixels
        image = Image.new("RGB", (2 * half, 2 * half))
        for path, corner in self._parts(row):
            image.paste(Image.fromarray(self._read(path)), corner)
        image = np.asarray(image)
        return cv2.resize(image, (pixels, pixels), interpolation=cv2.INTER_AREA if pixels < 2 * half else cv2.INTER_LINEAR)


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
        remedy = "replace them, or use --skip_missing to leave them out"
        raise UserError(f"{folder}: {len(wrong):,} of {len(files):,} map tiles cannot be used: {first_few(wrong)}; {remedy}")
    if not masks:
        raise UserError(f"{folder}: all {len(files):,} map tiles are transparent; name a folder with imagery")
    return size[0], {place: files[place] for place in masks}, masks, len(wrong)


def _size_and_mask(path):
    """(height, width) of a map tile, and where it is not transparent: True or (MASK_SIDE, MASK_SIDE) bool; or an ImageError."""
    try:
        size = None if _is_webp(path) else image_size(path)
        if path.lower().endswith((".jpg", ".jpeg")):
            return size, True
        with name_image(path), Image.open(io.BytesIO(read_file(path))) as image:
            size = size or image.size[::-1]
            if not image.has_transparency_data:
                return size, True
            alpha = np.asarray(image.convert("RGBA"))[..., 3] > 0
    except ImageError as error:
        return error
    except Exception as error:  # whatever broken bytes lead Pillow to
        return ImageError(f"{shortened(path)}: damaged ({first_line(error)})")
    if alpha.all():
        return size, True
    down, right = ((np.arange(MASK_SIDE) + 0.5) * side // MASK_SIDE for side in alpha.shape)
    return size, alpha[np.ix_(down.astype(int), right.astype(int))]


def _read(path, size):
    if not _is_webp(path):
        return read_tile(path, size)
    try:
        with name_image(path), Image.open(path) as image:
            return np.asarray(image.convert("RGB"))[..., ::-1]
    except ImageError as error:
        raise UserError(f"{error}; replace the file") from None


def _is_webp(path):
    return path.lower().endswith(".webp")
