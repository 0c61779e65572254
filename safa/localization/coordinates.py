"""Locations on the Earth (WGS 84), locations of other reference systems, and metres around a place."""

import functools
import importlib
import math

import numpy as np

from safa.runtime.command_line import at_least, setting
from safa.runtime.errors import UserError, first_line

EQUATOR_METRES = 156543.03  # a pixel of a 256-pixel Web Mercator tile at zoom 0, on the equator
WGS84 = 4326  # EPSG code
MOST_METRES = 1e6  # of ground, and of an error: a continent; squares of far greater numbers are not finite
INSTALL = "pip install -r requirements-localize.txt"


def length(default, meaning, least=0):
    """A `setting` in metres, from `least` to MOST_METRES."""
    return setting(default, meaning, at_least(float, least, MOST_METRES), metavar="METRES")


def needed(name, user="localize.py", install=INSTALL):
    """A package that not everybody has; a UserError says who needs it and what installs it."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(f"{user} needs the package {name}; {install}") from None


def wgs84_of(first, second, epsg):
    """Eastings and northings, (N,) each, of an EPSG system -> (N, 2) float64 longitude and latitude in degrees.

    They are not finite where the system does not reach. A UserError says that the number is not a system's on a map.
    """
    try:
        system = needed("pyproj").CRS(epsg)
        if not is_flat(system):
            raise UserError(f"EPSG:{epsg}: no reference system for locations on a map ({system.type_name}); use another number")
        return projections(epsg)[1](np.stack([first, second], axis=-1))
    except needed("pyproj").exceptions.ProjError as error:
        raise UserError(f"EPSG:{epsg}: no reference system for locations ({first_line(error)}); use another number") from None


def is_flat(system):
    """Whether a pyproj.CRS has places on a map: neither a geocentric one, nor one of heights or of a building site."""
    return system.is_geographic or system.is_projected


@functools.lru_cache(64)  # sheets of a folder share few systems
def projections(system):
    """Functions of (n, 2) float64 points: from longitude and latitude to a reference system (EPSG number or WKT), and back."""
    there = needed("pyproj").Transformer.from_crs(WGS84, system, always_xy=True)

    def function(direction):
        return lambda points: np.stack(there.transform(*np.asarray(points, np.float64).T, direction=direction), axis=1)

    return function("FORWARD"), function("INVERSE")


@functools.lru_cache(64)
def missing_grid(system):
    """What is to be said if the best transformation of a system to WGS 84 needs a datum grid that PROJ lacks: lines."""
    found = importlib.import_module("pyproj.transformer").TransformerGroup(WGS84, system, always_xy=True)
    if found.best_available or not found.unavailable_operations:
        return ()
    grids = ", ".join(grid.short_name for grid in found.unavailable_operations[0].grids if not grid.available)
    name, metres = needed("pyproj").CRS(system).name, found.transformers[0].accuracy if found.transformers else -1
    off = f"about {metres:g} m" if metres > 0 else "an unknown distance"
    return (f"warning: {name}: without the datum grid {grids} (pyproj sync) locations may be off by {off}",)


def reaches(epsg, locations):
    """Whether a reference system's area of use holds (n, 2) longitudes and latitudes, a degree around it too: (n,) bool."""
    area, (longitudes, latitudes) = needed("pyproj").CRS(epsg).area_of_use, locations.T
    is_inside = (longitudes - area.west + 1) % 360 <= ((area.east - area.west) % 360 or 360) + 2
    return is_inside & (latitudes >= area.south - 1) & (latitudes <= area.north + 1)


def unwrapped(locations, middle):
    """(n, 2) longitudes, also beyond -180 and 180 degrees so that a region across that meridian is one piece, and latitudes."""
    return locations + (360, 0) * np.round((middle - locations[:, :1]) / 360)


def problem_of(longitude, latitude):
    """What is wrong with a location in degrees, or None."""
    if not (math.isfinite(longitude) and math.isfinite(latitude)):
        return "has coordinates that are not finite"
    if abs(latitude) > 90:
        swapped = "; longitude and latitude may be swapped" if abs(longitude) <= 90 else ""
        return f"has latitude {latitude:g}, outside -90 to 90{swapped}"
    if abs(longitude) > 180:
        return f"has longitude {longitude:g}, outside -180 to 180"
    return None


class LocalFrame:
    """Metres east and north of a centre in degrees, in the azimuthal equidistant projection on WGS 84's ellipsoid.

    Directions and distances from the centre are exact. Between two other places, distances are good to 0.01 % within 150 km of
    the centre and to 0.4 % within 1,000 km.
    """

    def __init__(self, longitude, latitude):
        self.proj4 = f"+proj=aeqd +lat_0={latitude:.12f} +lon_0={longitude:.12f} +datum=WGS84 +units=m"
        self.centre = longitude, latitude
        self._projection = needed("pyproj").Proj(self.proj4)

    @classmethod
    def around(cls, locations):
        """The frame around the middle of (N, 2) longitudes and latitudes, also across the 180th meridian."""
        longitudes, latitudes = np.radians(np.asarray(locations, np.float64)).T
        x, y, z = np.cos(latitudes) * np.cos(longitudes), np.cos(latitudes) * np.sin(longitudes), np.sin(latitudes)
        x, y, z = x.mean(), y.mean(), z.mean()
        return cls(math.degrees(math.atan2(y, x)), math.degrees(math.atan2(z, math.hypot(x, y))))

    def metres(self, locations):
        """(N, 2) longitude and latitude -> (N, 2) float64 metres east and north."""
        locations = np.asarray(locations, np.float64).reshape(-1, 2)
        return np.stack(self._projection(locations[:, 0], locations[:, 1]), axis=1)

    def locations(self, metres):
        """(N, 2) metres east and north -> (N, 2) float64 longitude and latitude."""
        metres = np.asarray(metres, np.float64).reshape(-1, 2)
        return np.stack(self._projection(metres[:, 0], metres[:, 1], inverse=True), axis=1)


def mercator_resolution(latitudes, zoom, tile_pixels=256):
    """Metres of ground that a pixel of a Web Mercator tile shows: 156543.03 cos(latitude) / 2^zoom of 256 pixels."""
    return EQUATOR_METRES * np.cos(np.radians(latitudes)) / 2**zoom * 256 / tile_pixels


def mercator_pixels(locations, zoom, tile_pixels=256):
    """Web Mercator (EPSG:3857) pixel coordinates at a zoom: (N, 2) longitude and latitude -> (N, 2) float64 right and down."""
    longitudes, latitudes = np.asarray(locations, np.float64).reshape(-1, 2).T
    world = tile_pixels * 2.0**zoom
    down = 0.5 - np.arcsinh(np.tan(np.radians(latitudes))) / (2 * np.pi)
    return np.stack([(longitudes / 360 + 0.5) * world, down * world], axis=1)


def mercator_locations(pixels, zoom, tile_pixels=256):
    """The inverse of `mercator_pixels`."""
    right, down = np.asarray(pixels, np.float64).reshape(-1, 2).T / (tile_pixels * 2.0**zoom)
    latitudes = np.degrees(np.arctan(np.sinh((0.5 - down) * 2 * np.pi)))
    return np.stack([(right - 0.5) * 360, latitudes], axis=1)
