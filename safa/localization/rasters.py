"""Tiles of georeferenced rasters: GeoTIFFs that are tiles themselves, or orthophotos that are cut on a grid."""

import functools
import os
import threading

import numpy as np

from safa.localization.coordinates import LocalFrame, needed, projections
from safa.localization.tile_source import Cut, TileSource, grid_locations
from safa.runtime.errors import UserError, first_line, shortened

ENDINGS = (".tif", ".tiff", ".vrt", ".jp2")
TILE_RATIO = 1.5  # a raster of up to so many tiles' ground size is a tile itself
MIDDLES = (0.5, 0.5), (0, 0.5), (1, 0.5), (0.5, 0), (0.5, 1)  # of a raster and of its four sides, in parts of it
MOST_OPEN = 256  # files, of all threads together: systems allow 1,024 or more
MASK_SIDE = 2048  # pixels of the mask that tells where a raster has imagery


def _rasterio():
    needed("rasterio", "--tiles: this imagery")
    import rasterio.errors
    import rasterio.vrt
    import rasterio.warp

    return rasterio


class RasterTiles(TileSource):
    """North-up tiles of rasters in any reference system; several rasters are one mosaic.

    Rasters no larger than TILE_RATIO tiles are one tile each, and all others are cut on a grid. The top of each tile is true
    north, not the reference system's.

    Raises:
        UserError: a raster cannot be read, has no georeference, or no 8-bit colours; or no tile lies on imagery.
    """

    def __init__(self, paths: list[str], cut: Cut):
        self._cut, self._rasters = cut, [_Raster(path) for path in paths]
        if all(max(raster.metres) <= TILE_RATIO * cut.metres for raster in self._rasters):
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
        return np.any([raster.covers(locations) for raster in self._rasters], axis=0)

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
            colours, there = raster.read(self.locations[row], self.metres[row], pixels)
            image[empty & there] = colours[empty & there]
            empty &= ~there
            if not empty.any():
                break
        return image


class _Raster:
    """A raster's file: where it lies and has imagery.

    Attributes:
        bounds: west, south, east, north in degrees.
        centre: longitude and latitude.
        metres: of its width and height on the ground.
    """

    def __init__(self, path):
        self.path, rasterio = path, _rasterio()
        try:
            with rasterio.open(path) as file:
                self._check(file)
                self._size, self._transform = (file.width, file.height), file.transform
                self._mask = None
                if not all(rasterio.enums.MaskFlags.all_valid in flags for flags in file.mask_flag_enums):
                    self._mask = file.dataset_mask(out_shape=(min(file.height, MASK_SIDE), min(file.width, MASK_SIDE))) > 0
                self.bounds = rasterio.warp.transform_bounds(file.crs, "EPSG:4326", *file.bounds)
                self._from_wgs84, to_wgs84 = projections(file.crs.to_wkt())
        except rasterio.errors.RasterioError as error:
            raise UserError(f"{shortened(path)}: cannot be read as a raster ({first_line(error)}); replace it") from None
        if not np.isfinite(self.bounds).all():
            raise UserError(f"{shortened(path)}: its georeference lies outside its reference system; correct it")
        self.centre, *middles = to_wgs84(_apply(self._transform, np.array(MIDDLES) * self._size)).tolist()
        west, east, north, south = LocalFrame(*self.centre).metres(middles)
        self.metres = float(np.hypot(*(east - west))), float(np.hypot(*(north - south)))

    def _check(self, file):
        problem = None
        if file.crs is None or file.transform.is_identity:
            problem = "has no georeference; add one (gdal_translate -a_srs -a_ullr), or list the images in a CSV file"
        elif any(kind != "uint8" for kind in file.dtypes[:3]):
            problem = f"{file.dtypes[0]} values, and tiles have 8 bits a colour; convert it (gdal_translate -ot Byte -scale)"
        elif "palette" in [interpretation.name for interpretation in file.colorinterp]:
            problem = "has a colour table; convert it (gdal_translate -expand rgb)"
        if problem is not None:
            raise UserError(f"{shortened(self.path)}: {problem}")

    def covers(self, locations):
        """Whether it has imagery at (n, 2) longitudes and latitudes: (n,) bool."""
        fractions = _apply(~self._transform, self._from_wgs84(locations)) / self._size
        inside = ((fractions >= 0) & (fractions < 1)).all(axis=1)
        if self._mask is None:
            return inside
        height, width = self._mask.shape
        columns, rows = (np.where(inside[:, None], fractions, 0) * (width, height)).astype(np.int64).T
        return inside & self._mask[rows, columns]

    def read(self, centre, metres, pixels):
        """A tile as far as it has it: (pixels, pixels, 3) uint8 BGR, and (pixels, pixels) bool where it has imagery."""
        rasterio, step = _rasterio(), metres / pixels
        grid = {"crs": LocalFrame(*centre).proj4, "width": pixels, "height": pixels}
        grid["transform"] = rasterio.Affine(step, 0, -metres / 2, 0, -step, metres / 2)
        is_finer = step > 1.5 * self.metres[0] / self._size[0]  # linear interpolation would blur what is averaged
        grid["resampling"] = rasterio.enums.Resampling.average if is_finer else rasterio.enums.Resampling.bilinear
        try:
            file = _opened(self.path, threading.get_ident())
            has_alpha = "alpha" in [interpretation.name for interpretation in file.colorinterp]
            bands = [1, 2, 3] if file.count - has_alpha >= 3 else [1, 1, 1]  # a grey one stands for all three colours
            with rasterio.vrt.WarpedVRT(file, **grid, add_alpha=not has_alpha) as warped:
                colours, mask = warped.read(bands), warped.dataset_mask()
        except rasterio.errors.RasterioError as error:
            raise UserError(f"{self.path}: cannot be read ({first_line(error)}); replace the file") from None
        return np.ascontiguousarray(colours[::-1].transpose(1, 2, 0)), mask > 0


@functools.lru_cache(MOST_OPEN)
def _opened(path, thread):
    """The open file of a raster; GDAL's belong to one thread each."""
    return _rasterio().open(path)


def _apply(transform, points):
    """(n, 2) points through an affine.Affine."""
    return points @ np.array([[transform.a, transform.d], [transform.b, transform.e]]) + (transform.c, transform.f)
