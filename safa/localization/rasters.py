"""Tiles of georeferenced rasters: GeoTIFFs that are tiles themselves, or orthophotos that are cut on a grid."""

import collections.abc
import dataclasses
import functools
import os
import threading

import numpy as np

from safa.localization.coordinates import INSTALL, LocalFrame, projections
from safa.localization.tile_source import TileSource, grid_locations
from safa.runtime.errors import UserError, first_line, shortened

ENDINGS = (".tif", ".tiff", ".vrt", ".jp2")
TILE_RATIO = 1.5  # a raster of up to so many tiles' ground size is a tile itself
MIDDLES = (0.5, 0.5), (0, 0.5), (1, 0.5), (0.5, 0), (0.5, 1)  # of a raster and of its four sides, in parts of it
MOST_OPEN = 256  # files, of all threads together: systems allow 1,024 or more
MASK_SIDE = 2048  # pixels of the mask that tells where a raster has imagery


def _rasterio():
    try:
        import rasterio
        import rasterio.errors
        import rasterio.vrt
        import rasterio.warp
    except ImportError:
        raise UserError(f"--tiles: rasters need the package rasterio; {INSTALL}") from None
    return rasterio


@dataclasses.dataclass(frozen=True)
class _Raster:
    """A raster's file, and where it lies and has imagery.

    Attributes:
        path: of the file.
        width, height: in pixels.
        bounds: west, south, east, north in degrees.
        centre: longitude and latitude.
        metres: of its width and height on the ground.
        to_fractions: function from (n, 2) longitude and latitude to (n, 2) fractions of its width and height.
        mask: (h, w) bool, coarse; None: everywhere.
    """

    path: str
    width: int
    height: int
    bounds: tuple[float, float, float, float]
    centre: tuple[float, float]
    metres: tuple[float, float]
    to_fractions: collections.abc.Callable
    mask: np.ndarray | None

    def covers(self, locations):
        """Whether it has imagery at (n, 2) longitudes and latitudes: (n,) bool."""
        fractions = self.to_fractions(locations)
        inside = ((fractions >= 0) & (fractions < 1)).all(axis=1)
        if self.mask is None:
            return inside
        height, width = self.mask.shape
        columns, rows = (np.where(inside[:, None], fractions, 0) * (width, height)).astype(np.int64).T
        return inside & self.mask[rows, columns]


class RasterTiles(TileSource):
    """North-up tiles of rasters in any reference system; several rasters are one mosaic.

    Rasters no larger than TILE_RATIO tiles are one tile each, and all others are cut on a grid. The top of each tile is true
    north, not the reference system's.

    Args:
        paths: of the rasters.
        cut: tile_source.Cut.

    Raises:
        UserError: a raster cannot be read, has no georeference, or no 8-bit colours; or no tile lies on imagery.
    """

    def __init__(self, paths, cut):
        self._cut, self._rasters = cut, [_raster(path) for path in paths]
        small = [max(raster.metres) <= TILE_RATIO * cut.metres for raster in self._rasters]
        if all(small):
            self.locations = np.array([raster.centre for raster in self._rasters])
            self.metres = np.array([min(raster.metres) for raster in self._rasters])
            self.paths, self.names = list(paths), [os.path.basename(path) for path in paths]
            self._of_row = [[raster] for raster in self._rasters]
        else:
            bounds = np.array([raster.bounds for raster in self._rasters])
            box = *bounds[:, :2].min(axis=0).tolist(), *bounds[:, 2:].max(axis=0).tolist()
            where = paths[0] if len(paths) == 1 else os.path.dirname(paths[0]) or "."
            self.locations = grid_locations(box, cut, self._covered, where)
            self.metres = np.full(len(self.locations), cut.metres)
            self._of_row = self._rasters_of_rows()
            self.paths = [rasters[0].path for rasters in self._of_row]
            self.names = [f"{longitude:.7f} {latitude:.7f}" for longitude, latitude in self.locations.tolist()]
        self.record = {"kind": "rasters", "paths": [os.path.abspath(path) for path in paths], "pixels": cut.pixels}

    def _covered(self, locations):
        covered = np.zeros(len(locations), bool)
        for raster in self._rasters:
            covered |= raster.covers(locations)
        return covered

    def _rasters_of_rows(self):
        """For each tile the rasters whose bounds it touches, the one with its centre first."""
        high = self._cut.metres / 2 / 111_000  # a degree of latitude has 110.6 to 111.7 km
        (longitudes, latitudes), chosen = self.locations.T, [[] for _ in self.locations]
        wide = high / np.maximum(np.cos(np.radians(latitudes)), 1e-3)
        for raster in reversed(self._rasters):
            west, south, east, north = raster.bounds
            touches = (longitudes + wide >= west) & (longitudes - wide <= east)
            touches &= (latitudes + high >= south) & (latitudes - high <= north)
            covers = raster.covers(self.locations)
            for row in np.flatnonzero(touches):
                chosen[row].insert(0 if covers[row] else len(chosen[row]), raster)
        return chosen

    def tile(self, row):
        pixels = self._cut.pixels
        image, empty = np.zeros((pixels, pixels, 3), np.uint8), np.ones((pixels, pixels), bool)
        for raster in self._of_row[row]:
            colours, there = self._read(raster, row)
            image[empty & there] = colours[empty & there]
            empty &= ~there
            if not empty.any():
                break
        return image

    def _read(self, raster, row):
        """A tile as far as a raster has it: (pixels, pixels, 3) uint8 BGR, and (pixels, pixels) bool where it has imagery."""
        rasterio, pixels, metres = _rasterio(), self._cut.pixels, self.metres[row]
        step = metres / pixels
        grid = {"crs": LocalFrame(*self.locations[row]).proj4, "width": pixels, "height": pixels}
        grid["transform"] = rasterio.Affine(step, 0, -metres / 2, 0, -step, metres / 2)
        is_finer = step > 1.5 * raster.metres[0] / raster.width  # linear interpolation would blur what is averaged
        grid["resampling"] = rasterio.enums.Resampling.average if is_finer else rasterio.enums.Resampling.bilinear
        try:
            file = _opened(raster.path, threading.get_ident())
            with rasterio.vrt.WarpedVRT(file, **grid, add_alpha=not _has_alpha(file)) as warped:
                colours, mask = warped.read(_colour_bands(file)), warped.dataset_mask()
        except rasterio.errors.RasterioError as error:
            raise UserError(f"{raster.path}: cannot be read ({first_line(error)}); replace the file") from None
        return np.ascontiguousarray(colours[::-1].transpose(1, 2, 0)), mask > 0


@functools.lru_cache(MOST_OPEN)
def _opened(path, thread):
    """The open file of a raster; GDAL's belong to one thread each."""
    return _rasterio().open(path)


def _has_alpha(file):
    return "alpha" in [interpretation.name for interpretation in file.colorinterp]


def _colour_bands(file):
    """Numbers of the red, green and blue band; a grey one stands for all three."""
    return [1, 2, 3] if file.count - _has_alpha(file) >= 3 else [1, 1, 1]


def _raster(path):
    """The _Raster of a file, checked."""
    rasterio = _rasterio()
    try:
        with rasterio.open(path) as file:
            if file.crs is None or file.transform.is_identity:
                raise UserError(
                    f"{shortened(path)}: has no georeference; add one (gdal_translate -a_srs -a_ullr), or list the images "
                    "in a CSV file with their locations"
                )
            if any(kind != "uint8" for kind in file.dtypes[:3]):
                raise UserError(
                    f"{shortened(path)}: {file.dtypes[0]} values, and tiles have 8 bits a colour; convert it "
                    "(gdal_translate -ot Byte -scale)"
                )
            if "palette" in [interpretation.name for interpretation in file.colorinterp]:
                raise UserError(f"{shortened(path)}: has a colour table; convert it (gdal_translate -expand rgb)")
            mask = None
            if not all(rasterio.enums.MaskFlags.all_valid in flags for flags in file.mask_flag_enums):
                mask = file.dataset_mask(out_shape=(min(file.height, MASK_SIDE), min(file.width, MASK_SIDE))) > 0
            bounds = rasterio.warp.transform_bounds(file.crs, "EPSG:4326", *file.bounds)
            crs, transform, width, height = file.crs, file.transform, file.width, file.height
    except rasterio.errors.RasterioError as error:
        raise UserError(f"{shortened(path)}: cannot be read as a raster ({first_line(error)}); replace it") from None
    if not np.isfinite(bounds).all():
        raise UserError(f"{shortened(path)}: its georeference lies outside its reference system; correct it")

    from_wgs84, to_wgs84, inverse = *projections(crs.to_wkt()), ~transform

    def to_fractions(locations):
        pixels = _apply(inverse, from_wgs84(locations))
        return np.nan_to_num(pixels / (width, height), nan=-1, posinf=-1, neginf=-1)

    centre, *middles = to_wgs84(_apply(transform, np.array(MIDDLES) * (width, height))).tolist()
    frame = LocalFrame(*centre)
    west, east, north, south = frame.metres(middles)
    metres = float(np.hypot(*(east - west))), float(np.hypot(*(north - south)))
    return _Raster(path, width, height, bounds, tuple(centre), metres, to_fractions, mask)


def _apply(transform, points):
    """(n, 2) points through an affine.Affine."""
    return points @ np.array([[transform.a, transform.d], [transform.b, transform.e]]) + (transform.c, transform.f)
