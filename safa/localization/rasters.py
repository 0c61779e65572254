"""Tiles of georeferenced rasters: GeoTIFFs that are tiles themselves, or orthophotos that are cut on a grid."""

import dataclasses
import os

import cv2
import numpy as np

from safa.localization.coordinates import needed, unwrapped
from safa.localization.tile_source import Cut, SourceRecord, TileSource, grid_locations

ENDINGS = (".tif", ".tiff", ".vrt", ".jp2", ".mbtiles")
TILE_RATIO = 1.5  # a raster of up to so many tiles' ground size is a tile itself
DEGREE_METRES = 111_000  # of latitude: 110.6 to 111.7 km


class RasterTiles(TileSource):
    """North-up tiles of rasters in any reference system; several rasters are one mosaic.

    Rasters no larger than TILE_RATIO tiles are one tile each, and all others are cut on a grid. The top of each tile is true
    north, not the reference system's. Errors as of RasterFile and `grid_locations`.
    """

    def __init__(self, paths: list[str], cut: Cut, epsg: int | None = None):
        needed("rasterio", "--tiles: this imagery")
        needed("pyproj")
        from safa.localization.raster_file import RasterFile

        self._rasters = [RasterFile(path, epsg) for path in paths]
        self._middle = self._rasters[0].centre[0]  # boxes lie around this meridian
        self._boxes = np.array([raster.box for raster in self._rasters])
        self._boxes += np.tile(unwrapped(self._boxes[:, :2], self._middle) - self._boxes[:, :2], 2)
        if all(max(raster.metres) <= TILE_RATIO * cut.metres for raster in self._rasters):
            self.locations = np.array([raster.centre for raster in self._rasters])
            self.metres = np.array([min(raster.metres) for raster in self._rasters])
            self.names, self._of_row = [os.path.basename(path) for path in paths], [[raster] for raster in self._rasters]
            made = dataclasses.replace(cut, region=None, grid=None)
        else:
            box = *self._boxes[:, :2].min(axis=0).tolist(), *self._boxes[:, 2:].max(axis=0).tolist()
            where = paths[0] if len(paths) == 1 else os.path.dirname(paths[0]) or "."
            self.locations, made = grid_locations(box, cut, self._covered, where)
            self.metres = np.full(len(self.locations), cut.metres)
            self.names = [f"{longitude:.7f} {latitude:.7f}" for longitude, latitude in self.locations.tolist()]
            self._of_row = self._rasters_of_rows(cut.metres)
        self.paths = [rasters[0].path for rasters in self._of_row]
        self.notes = sorted(set().union(*(raster.notes for raster in self._rasters)))
        self.record = SourceRecord("rasters", made, epsg=epsg)
        self._pixels = cut.pixels

    def _covered(self, locations):
        points, covered = unwrapped(locations, self._middle), np.zeros(len(locations), bool)
        low, high = points.min(axis=0, initial=np.inf), points.max(axis=0, initial=-np.inf)
        for number in np.flatnonzero(((self._boxes[:, 2:] >= low) & (self._boxes[:, :2] <= high)).all(axis=1)):
            box = self._boxes[number]
            rows = np.flatnonzero(~covered & ((points >= box[:2]) & (points <= box[2:])).all(axis=1))
            covered[rows] = self._rasters[number].covers(locations[rows])
        return covered

    def _rasters_of_rows(self, metres):
        """For each tile the rasters whose boxes it touches, the one with its centre first."""
        points, chosen = unwrapped(self.locations, self._middle), [[] for _ in self.locations]
        high = np.full(len(points), metres / 2 / DEGREE_METRES)
        margins = np.stack([high / np.maximum(np.cos(np.radians(points[:, 1])), 1e-3), high], axis=1)
        low, top = points - margins, points + margins
        for raster, box in zip(reversed(self._rasters), self._boxes[::-1], strict=True):
            rows = np.flatnonzero(((top >= box[:2]) & (low <= box[2:])).all(axis=1))
            for row, has_centre in zip(rows.tolist(), raster.covers(self.locations[rows]).tolist(), strict=True):
                chosen[row].insert(0 if has_centre else len(chosen[row]), raster)
        return chosen

    def files(self, row):
        return [path for raster in self._of_row[row] for path in raster.files]

    def tile(self, row):
        pixels = self._pixels
        image, empty = np.zeros((pixels, pixels, 3), np.uint8), np.ones((pixels, pixels), bool)
        for raster in self._of_row[row]:
            colours, there = raster.read(self.locations[row], self.metres[row], pixels)
            image[empty & there] = colours[empty & there]
            empty &= ~there
            if not empty.any():
                return image
        image[empty] = cv2.dilate(image, np.ones((3, 3), np.uint8))[empty]  # a seam between sheets is a pixel wide
        return image
