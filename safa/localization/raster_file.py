"""A georeferenced raster: where it lies and has imagery, and north-up tiles of it."""

import atexit
import functools
import logging
import os
import threading

import numpy as np
import rasterio.errors
import rasterio.vrt
from pyproj import CRS
from pyproj.exceptions import ProjError
from rasterio.enums import MaskFlags, Resampling

from safa.localization.coordinates import LocalFrame, is_flat, missing_grid, projections, reaches, unwrapped
from safa.runtime.errors import UserError, first_line, shortened
from safa.runtime.files import ordinary

COLOURS = ("red", "green", "blue")
PLAIN = ("gray", "undefined", "pan")  # bands that are taken in their order where none is tagged as a colour
MOST_OPEN = 100  # files, of all threads together; a raster may have three, and systems allow 256 or 1,024
MASK_SIDE = 2048  # pixels of the mask that tells where a raster has imagery
MIDDLES = (0.5, 0.5), (0, 0.5), (1, 0.5), (0.5, 0), (0.5, 1)  # of a raster and of its four sides, in parts of it
STEPS = np.linspace(0, 1, 21)  # along a side: its points by which a raster's box is found
OUTLINE = np.array([*MIDDLES, *(place for end in (0, 1) for step in STEPS for place in ((end, step), (step, end)))])
MARGIN = 1 / 64  # of a box, by which curved sides may leave it between these points
ERRORS = rasterio.errors.RasterioError, rasterio.errors.CRSError, rasterio._err.CPLE_BaseError, ProjError, UnicodeError
_SAID = set()  # by GDAL, which repeats itself at each tile, in each thread
logging.getLogger("rasterio._env").addFilter(lambda said: (text := said.getMessage()) not in _SAID and not _SAID.add(text))


class RasterFile:
    """A raster's file; a UserError if it cannot be read, has no usable georeference, or no 8-bit colours.

    Attributes:
        files: all that GDAL reads for it.
        centre: longitude and latitude.
        box: (4,) float64 west, south, east, north in degrees that hold it, west to east across the 180th meridian too.
        metres: of its width and height on the ground.
        notes: set of lines to be said of it.

    Args:
        path: of the file, or any name that GDAL opens: /vsizip/..., a URL.
        epsg: number of the reference system, of a raster that does not name one; or None.
    """

    def __init__(self, path, epsg=None):
        self.path, self.notes, self._mask = path, set(), None
        if os.path.exists(path):  # GDAL waits for a pipe
            os.close(ordinary(path, os.O_RDONLY))
        try:
            with rasterio.open(path) as file:
                self.files, self._size, self._transform = file.files, (file.width, file.height), file.transform
                epsg = None if file.crs else epsg
                self._crs = file.crs or (epsg and rasterio.CRS.from_epsg(epsg))
                self._bands, self._is_inverted = _bands(file), file.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") == "YES"
                if problem := self._problem(file):
                    raise UserError(f"{shortened(path)}: {problem}")
                if file.count > 3 and not set(COLOURS) & {each.name for each in file.colorinterp}:
                    self.notes.add("warning: no band is tagged as red, green or blue; the first three are taken as these")
                if not all(MaskFlags.all_valid in flags for flags in file.mask_flag_enums):
                    mask = file.dataset_mask(out_shape=(min(file.height, MASK_SIDE), min(file.width, MASK_SIDE))) > 0
                    self._mask = None if mask.all() else mask
            self._locate()
            if epsg and not reaches(epsg, np.array([self.centre])):
                self.notes.add(f"warning: rasters lie outside EPSG:{epsg}'s area of use; check --epsg")
        except ERRORS as error:
            raise UserError(f"{shortened(path)}: cannot be read as a raster ({first_line(error)}); correct it") from None

    def _problem(self, file):
        """What keeps a file from being used, and what to do; or None."""
        transform, bits = self._transform, file.tags(1, ns="IMAGE_STRUCTURE").get("NBITS", "8")
        if transform.is_identity and (file.gcps[0] or file.rpcs):
            return "has control points only; warp it (gdalwarp -t_srs EPSG:...)"
        if transform.is_identity:
            return "has no georeference; add one (gdal_translate -a_srs -a_ullr), or list the images in a CSV file"
        if self._crs is None:
            return "says where it lies, but in no reference system, as world files do; name its number with --epsg"
        if not abs(transform.determinant) > 0:
            return "its georeference has no area (determinant 0); correct it (gdal_edit -a_ullr)"
        if self._bands is None:
            names = ", ".join(each.name for each in file.colorinterp)
            return f"its bands are {names}; make them red, green, blue (gdal_translate -expand rgb, or -b and -colorinterp)"
        if wrong := {file.dtypes[band - 1] for band in self._bands} - {"uint8"} or {f"{bits} bits"} - {"8 bits"}:
            return f"has colours of {wrong.pop()} instead of 8 bits; convert it (gdal_translate -ot Byte -co NBITS=8 -scale)"
        if file.nodata == 255 and rasterio.enums.ColorInterp.alpha in file.colorinterp:  # GDAL finds nodata everywhere
            return "its nodata value 255 is also that of its alpha band's imagery; remove it (gdal_edit -unsetnodata)"
        crs = CRS(self._crs.to_wkt())
        if not is_flat(crs):
            name = f"{shortened(crs.name, 60)} ({crs.type_name})"
            others = ", or unset PROJ_DATA and PROJ_LIB" * (not os.environ.keys().isdisjoint(("PROJ_DATA", "PROJ_LIB")))
            return f"its reference system {name} has no place on a map; assign the real one (gdal_edit -a_srs EPSG:...){others}"
        return None

    def _locate(self):
        """Find its box, centre and size; a UserError says that it does not lie on Earth, or how to cut it."""
        system = self._crs.to_wkt()
        self._from_wgs84, to_wgs84 = projections(system)
        self.notes.update(missing_grid(system))
        found = to_wgs84(_apply(self._transform, OUTLINE * self._size))
        if not np.isfinite(found).all() or (np.abs(found) > (360 + 1e-6, 90 + 1e-6)).any():
            raise UserError(f"{shortened(self.path)}: its georeference lies outside its reference system; correct it")
        self.centre = tuple(found[0].tolist())
        is_beyond = np.abs(found[:, 0]).max() > 180 + 1e-6
        if is_beyond or not (np.abs(self._fractions(found) - OUTLINE) * self._size).max() < 1:
            edge = "the 180th meridian" if is_beyond else "its reference system's edge"
            raise UserError(f"{shortened(self.path)}: reaches beyond {edge}; cut it there (gdalwarp -te), into two rasters")
        if self.covers(np.array([(self.centre[0], -90.0), (self.centre[0], 90.0)])).any():
            raise UserError(f"{shortened(self.path)}: covers a pole, where no tile has a north; cut it off (gdalwarp -te)")
        found = unwrapped(found, self.centre[0])
        low, high = found.min(axis=0), found.max(axis=0)
        self.box = np.concatenate([low - MARGIN * (high - low), high + MARGIN * (high - low)])
        west, east, north, south = LocalFrame(*self.centre).metres(found[1:5])
        self.metres = float(np.hypot(*(east - west))), float(np.hypot(*(north - south)))

    def _fractions(self, locations):
        """(n, 2) longitudes and latitudes -> (n, 2) parts of its width and height, from its first corner."""
        with np.errstate(invalid="ignore"):  # infinite where the system does not reach
            return _apply(~self._transform, self._from_wgs84(locations)) / self._size

    def covers(self, locations):
        """Whether it has imagery at (n, 2) longitudes and latitudes: (n,) bool."""
        fractions = self._fractions(locations)
        inside = ((fractions >= 0) & (fractions < 1)).all(axis=1)
        if self._mask is None:
            return inside
        columns, rows = (np.where(inside[:, None], fractions, 0) * self._mask.shape[::-1]).astype(np.int64).T
        return inside & self._mask[rows, columns]

    def read(self, centre, metres, pixels):
        """A tile as far as it has it: (pixels, pixels, 3) uint8 BGR, and (pixels, pixels) bool where it has imagery."""
        step = metres / pixels
        grid = {"src_crs": self._crs, "crs": LocalFrame(*centre).proj4, "width": pixels, "height": pixels}
        grid["transform"] = rasterio.Affine(step, 0, -metres / 2, 0, -step, metres / 2)
        is_finer = step > 1.5 * self.metres[0] / self._size[0]  # linear interpolation would blur what is averaged
        grid["resampling"] = Resampling.average if is_finer else Resampling.bilinear
        try:
            file = _opened(self, threading.get_ident())
            has_alpha = rasterio.enums.ColorInterp.alpha in file.colorinterp
            with rasterio.vrt.WarpedVRT(file, **grid, add_alpha=not has_alpha) as warped:
                colours, mask = warped.read(self._bands), warped.dataset_mask()
        except ERRORS as error:
            raise UserError(f"{self.path}: cannot be read ({first_line(error.__cause__ or error)}); replace the file") from None
        colours = np.ascontiguousarray(colours[::-1].transpose(1, 2, 0))
        return ~colours if self._is_inverted else colours, mask > 0


def _bands(file):
    """Numbers of the bands that are red, green and blue, a grey one three times; None if there are no such bands."""
    names = [each.name for each in file.colorinterp]
    if set(names) & set(COLOURS):
        return [names.index(name) + 1 for name in COLOURS] if set(names).issuperset(COLOURS) else None
    plain = [number for number, name in enumerate(names, start=1) if name in PLAIN]
    return plain[:3] if len(plain) >= 3 else plain[:1] * 3 or None


@functools.lru_cache(MOST_OPEN)
def _opened(raster, thread):
    """The open file of a RasterFile; GDAL's belong to one thread each."""
    return rasterio.open(raster.path)


atexit.register(_opened.cache_clear)  # later, as Python ends, rasterio's files print errors


def _apply(transform, points):
    """(n, 2) points through an affine.Affine."""
    return points @ np.array([[transform.a, transform.d], [transform.b, transform.e]]) + (transform.c, transform.f)
