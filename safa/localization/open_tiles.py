"""Where an index's tiles come from: a list, rasters, or a folder of map tiles."""

import dataclasses
import os

from safa.datasets.file_checks import sizes_or_errors
from safa.datasets.image_files import ImageError, ImageMissing, by_pixels
from safa.localization.located_files import read_located_files
from safa.localization.map_tiles import MapTiles, zooms_in
from safa.localization.rasters import ENDINGS, RasterTiles
from safa.localization.tile_source import SourceRecord, TileSource, read_tile
from safa.runtime.errors import UserError, first_few, printable, shortened


def open_tile_source(paths, cut, zoom=None, tms=False, skip_missing=False, epsg=None, earlier=None):
    """The TileSource that paths name.

    Args:
        paths, zoom, tms, skip_missing, epsg: as of the flags of `localize.py build` (paths: --tiles).
        cut: Cut, for imagery that is not in tiles already.
        earlier: SourceRecord of an index that may be updated: imagery of its paths, and others, is cut on its grid; or None.

    Raises:
        UserError: there is nothing there, or nothing that can be used.
    """
    own = tuple(printable(path if _is_gdals(path) else os.path.abspath(path)) for path in paths)
    if earlier is not None and earlier.cut is not None and earlier.paths and set(own).issuperset(earlier.paths):
        cut, own = dataclasses.replace(cut, grid=earlier.cut.grid), earlier.paths  # --tiles *.tif, and files were added
    source = _source(paths, cut, zoom, tms, skip_missing, epsg)
    if cut.region is not None and (source.record.cut is None or source.record.cut.grid is None):
        raise UserError(f"--region: {shortened(paths[0])} holds tiles that are not cut; leave it out, and name fewer tiles")
    source.record = dataclasses.replace(source.record, paths=own)
    return source


def _source(paths, cut, zoom, tms, skip_missing, epsg):
    first = paths[0]
    if len(paths) == 1 and first.lower().endswith(".csv") and not _is_gdals(first):
        return ListedTiles(first, skip_missing)
    for path in paths:
        if not (_is_gdals(path) or os.path.exists(path)):
            raise UserError(f"--tiles {path}: does not exist; name a CSV list, rasters, or a folder of either kind of tiles")
        if len(paths) > 1 and (os.path.isdir(path) or path.lower().endswith(".csv")):
            raise UserError(f"--tiles {path}: a folder or a CSV list is named alone; name one, or only rasters")
    if len(paths) == 1 and os.path.isdir(first):
        if zooms_in(first):
            return MapTiles(first, cut, zoom, tms, skip_missing)
        names = (name for name in os.listdir(first) if not name.startswith("."))  # as the ._a.tif that macOS writes
        paths = sorted(os.path.join(first, name) for name in names if name.lower().endswith(ENDINGS))
        if not paths:
            raise UserError(
                f"--tiles {first}: holds neither rasters ({', '.join(ENDINGS)}) nor folders of map tiles (zoom/x/y.png); name "
                "another folder, or a CSV list"
            )
    return RasterTiles(paths, cut, epsg)


def _is_gdals(path):
    """Whether GDAL opens a name that is not of a local file: /vsizip/..., https://..."""
    return path.startswith("/vsi") or "://" in path


class ListedTiles(TileSource):
    """The tiles of a CSV list, in its order; a UserError if the list is wrong, or files are missing, broken or not square."""

    def __init__(self, path, skip_missing):
        listed = read_located_files(path, needs_locations=True)
        problems = list(map(_problem, listed.paths, sizes_or_errors(shortened(path), listed.paths)))
        kept = [row for row, problem in enumerate(problems) if problem is None]
        wrong = [each for each in problems if each and not (skip_missing and isinstance(each, ImageMissing))]
        if wrong:
            skip = ", or use --skip_missing to leave missing ones out" if ImageMissing in map(type, wrong) else ""
            raise UserError(
                f"{path}: {len(wrong):,} of {len(problems):,} tiles cannot be used: {first_few(wrong)}; replace them{skip}"
            )
        if not kept:
            raise UserError(f"{path}: none of its {len(problems):,} files exists; check the paths, which start in its folder")
        self.paths, self.locations = [listed.paths[row] for row in kept], listed.locations[kept]
        self.notes = list(listed.notes)
        self.metres = None if listed.metres is None else listed.metres[kept]
        self.names = [os.path.relpath(each, os.path.dirname(path) or ".") for each in self.paths]
        places = {}
        for each, place in zip(self.paths, self.locations.tolist(), strict=True):
            places.setdefault(os.path.normpath(each), set()).add(tuple(place))
        if twice := [each for each, own in places.items() if len(own) > 1]:
            self.notes.append(f"warning: {len(twice):,} files are listed at several places, one is right: {first_few(twice)}")
        if left_out := len(problems) - len(kept):
            self.notes.append(f"{left_out:,} tiles of the list do not exist and are left out")
        self.record = SourceRecord("list")

    def tile(self, row):
        return read_tile(self.paths[row])


def _problem(path, size):
    """What is wrong with a tile of this size, or ImageError: an ImageError, or None."""
    if isinstance(size, ImageError):
        return size
    return None if size[0] == size[1] else ImageError(f"{path}: {by_pixels(size)} pixels are not square")
