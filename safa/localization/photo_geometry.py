"""Heading and location that a photo's own tags tell: EXIF's GPS part, and XMP of photo spheres."""

import math
import re

from safa.localization.coordinates import problem_of

GPS = 0x8825  # EXIF's number of its GPS part
LATITUDE_REF, LATITUDE, LONGITUDE_REF, LONGITUDE, DIRECTION = 1, 2, 3, 4, 17
XMP_BYTES = 2**20  # at the beginning of a file, that XMP is looked for in
# Compass heading of the image's centre (Google's photo sphere metadata), as an attribute or an element.
POSE_HEADING = re.compile(rb"GPano:PoseHeadingDegrees\s*(?:=\s*[\"']|>)\s*([-+]?[0-9]{1,4}(?:\.[0-9]{0,12})?)\s*[\"'<]")


def tagged_heading(path):
    """The compass heading of a photo's centre in degrees clockwise from north, or None if no tag tells it.

    XMP's PoseHeadingDegrees comes before EXIF's GPSImgDirection.
    """
    with open(path, "rb") as file:
        found = POSE_HEADING.search(file.read(XMP_BYTES))
    try:
        heading = float(found[1] if found else _gps(path)[DIRECTION])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    return heading % 360 if math.isfinite(heading) else None


def tagged_location(path):
    """Longitude and latitude of EXIF's GPS part, or None."""
    gps, location = _gps(path), []
    for value, reference, negative in ((LONGITUDE, LONGITUDE_REF, "W"), (LATITUDE, LATITUDE_REF, "S")):
        try:
            degrees, minutes, seconds = map(float, gps[value])
        except (KeyError, TypeError, ValueError, ZeroDivisionError):
            return None
        found = degrees + minutes / 60 + seconds / 3600
        location.append(-found if str(gps.get(reference, "")).strip().upper().startswith(negative) else found)
    return None if problem_of(*location) else tuple(location)


def _gps(path):
    """EXIF's GPS part as a dict; empty if it is missing or cannot be read."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return dict(image.getexif().get_ifd(GPS))
    except Exception:  # Pillow raises many kinds for broken tags; a photo without tags is as good
        return {}
