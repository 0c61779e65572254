"""What a photo's own tags say about its geometry: XMP of photo spheres (Google's GPano), and EXIF with its GPS part."""

import contextlib
import dataclasses
import datetime
import fractions
import math
import warnings

import numpy as np
from PIL import Image
from PIL.ExifTags import GPSTAGS, IFD, TAGS, Base

from safa.datasets.image_files import MOST_PIXELS
from safa.localization.coordinates import MOST_METRES, needed, problem_of
from safa.runtime.errors import first_line, shortened
from safa.runtime.files import ordinary
from safa.settings import FULL_CIRCLE

NAMESPACES = ("{http://ns.google.com/photos/1.0/panorama", "{http://ns.adobe.com/exif/1.0")
ORIENTATION = {Base.Orientation: "Orientation"}
SPHERE = "equirectangular"
POSE = {"PoseHeadingDegrees", "PosePitchDegrees", "PoseRollDegrees"}
CROP = ["FullPanoWidthPixels", "FullPanoHeightPixels", "CroppedAreaImageWidthPixels", "CroppedAreaImageHeightPixels"]
CROP += ["CroppedAreaLeftPixels", "CroppedAreaTopPixels"]
MOST_SIDE = 1e6  # pixels of a full sphere
MOST_XMP = 2**20  # bytes; JPEG files hold 2**16 of them
DATUMS = ("", "WGS84", "WGS1984")  # letters and digits of the names of what GPS measures in
OTHER_SHAPE = 0.01  # share by which proportions may differ: sizes are rounded, by some to whole blocks of a JPEG


@dataclasses.dataclass(frozen=True)
class PhotoGeometry:
    """What a photo says about its geometry; None, or the default, where it says nothing that can be used."""

    projection: str = SPHERE
    orientation: int = 1  # EXIF's, 1 to 8: how the stored pixels have to be turned and mirrored
    fov: float | None = None  # degrees that the upright photo shows of its sphere
    vertical_fov: float | None = None
    horizon: float | None = None  # its height in the photo: 0 is the top, 1 the bottom; outside of these if it is cut off
    offset: float = 0.0  # degrees to the right from the sphere's centre to the photo's
    heading: float | None = None  # degrees clockwise from (magnetic) north of the photo's centre column
    heading_tag: str | None = None  # which says it
    magnetic: bool = False
    pitch: float = 0.0  # degrees that the sphere's centre looks up
    roll: float = 0.0  # degrees that the camera's right side is down
    location: tuple[float, float] | None = None  # longitude and latitude (WGS 84) of a rough place
    accuracy: float | None = None  # its error in metres
    time: datetime.datetime | None = None  # it knows its zone if the photo says one
    unused: tuple[tuple[str, str], ...] = ()  # (tag, why) of those that are there and cannot be used

    @property
    def tilt(self):
        """Degrees between the camera's vertical and the true one."""
        return math.degrees(math.acos(math.cos(math.radians(self.pitch)) * math.cos(math.radians(self.roll))))


def photo_geometry(path) -> PhotoGeometry:
    """The PhotoGeometry of a JPEG or PNG file. Whatever that holds, a UserError is raised for a missing package alone."""
    tags = _Tags(path)
    fields = {"projection": shortened(tags.text("ProjectionType").lower() or SPHERE, 40)}
    fields["orientation"] = int(tags.number("Orientation", 0, 8) or 1)
    fields["pitch"] = tags.number("PosePitchDegrees", -90, 90) or 0.0
    fields["roll"] = tags.number("PoseRollDegrees", -FULL_CIRCLE, FULL_CIRCLE) or 0.0
    fields |= _crop(tags)
    fields |= _heading(tags, fields.get("offset", 0.0), fields["pitch"] == fields["roll"] == 0)
    return PhotoGeometry(**fields, **_location(tags), time=_time(tags), unused=tuple(tags.unused.items()))


class _Tags:
    """A photo's size (width, height) as it is seen, values {name: as EXIF, else XMP has it}, and unused {name: why}."""

    def __init__(self, path):
        self.size, self.values, self.unused, packet = (1, 1), {}, {}, b""
        try:
            with warnings.catch_warnings(record=True) as said, open(path, "rb", opener=ordinary) as file:
                warnings.simplefilter("always")
                with Image.open(file, formats=("JPEG", "PNG")) as image:
                    if image.format == "PNG" and image.width * image.height <= MOST_PIXELS:
                        image.load()  # tags may stand behind the pixels
                    self.size, packet = image.size, image.info.get("xmp", b"").rstrip(b"\0 ")
                    exif = image.getexif()
                    parts = (exif, ORIENTATION), (exif.get_ifd(IFD.Exif), TAGS), (exif.get_ifd(IFD.GPSInfo), GPSTAGS)
                    for part, names in parts:
                        self.values |= {names[number]: value for number, value in part.items() if number in names}
            if skipped := [each.message for each in said if each.category is UserWarning]:  # Pillow's, of damaged tags
                self.unused["EXIF"] = first_line(skipped[0])
        except Exception as error:  # broken files raise many kinds; whoever reads the pixels says more
            self.unused["EXIF"] = first_line(error)
        if self.values.get("Orientation") in (5, 6, 7, 8):
            self.size = self.size[::-1]
        if packet.startswith((b"<\0", b"\xff\xfe")):  # UTF-16, whose last character ends in a zero
            packet += b"\0"
        parse = needed("defusedxml.ElementTree").fromstring if packet else None
        try:
            if len(packet) > MOST_XMP:
                raise ValueError(f"{len(packet):,} bytes")
            for element in parse(packet).iter() if packet else ():
                for name, text in ((element.tag, element.text), *element.attrib.items()):
                    if name.startswith(NAMESPACES):
                        self.values.setdefault(name.rpartition("}")[2], text or "")
        except Exception as error:  # damaged ones, and hostile ones (entities)
            self.unused["XMP"] = first_line(error)

    def read(self, name, parse):
        """What `parse` makes of a tag's value; None if it is not there or cannot be read."""
        if name in self.values:
            with contextlib.suppress(TypeError, ValueError, ArithmeticError, LookupError):
                return parse(self.values[name])
            self.unused[name] = f"{shortened(self.values[name], 40)!r} cannot be read"
        return None

    def number(self, name, low=-math.inf, high=math.inf):
        """A tag's finite number within bounds, or None."""

        def parse(value):
            number = float(fractions.Fraction(value) if isinstance(value, str) and "/" in value else value)
            if not (math.isfinite(number) and low <= number <= high):
                raise ValueError
            return number

        return self.read(name, parse)

    def text(self, name):
        """A tag as text; empty if it is not there."""
        return str(self.values.get(name, "")).strip("\0\n ")


def _crop(tags):
    """Fields of PhotoGeometry that the tags of a cropped sphere tell."""
    if tags.values.keys().isdisjoint(CROP):
        return {}
    full_width, full_height, width, height, left, top = numbers = [tags.number(name, 0, MOST_SIDE) for name in CROP]
    if None in numbers:
        tags.unused["CroppedArea"] = "its numbers are not complete"
    elif abs(full_width - 2 * full_height) > OTHER_SHAPE * full_width:
        tags.unused["CroppedArea"] = "its full sphere is not twice as wide as high"
    elif not (0 < width <= full_width and left <= full_width and 0 < height <= full_height - top):
        tags.unused["CroppedArea"] = "lies outside its full sphere"
    elif abs(tags.size[0] * height - tags.size[1] * width) > OTHER_SHAPE * tags.size[0] * height:
        tags.unused["CroppedArea"] = "is of other proportions than the photo's {}x{} pixels".format(*tags.size)
    else:
        fov, vertical_fov = FULL_CIRCLE * width / full_width, FULL_CIRCLE / 2 * height / full_height
        offset, horizon = FULL_CIRCLE * ((left + width / 2) / full_width - 0.5), (full_height / 2 - top) / height
        return {"fov": fov, "vertical_fov": vertical_fov, "horizon": horizon, "offset": offset}
    return {}


def _heading(tags, offset, is_level):
    """Fields of PhotoGeometry that tell the heading of the photo's centre; GPano's is that of the full sphere's."""
    for name, turn in (("PoseHeadingDegrees", offset), ("GPSImgDirection", 0), ("GPSTrack", 0)):
        heading = tags.number(name)
        if heading == 0 and is_level and name in POSE and tags.values.keys() >= POSE:
            tags.unused[name] = "0 with pitch 0 and roll 0 stands for an unknown one"  # GoPro's cameras have no compass
        elif heading is not None:
            is_magnetic = tags.text(f"{name}Ref").upper() == "M"
            return {"heading": (heading + turn) % FULL_CIRCLE, "heading_tag": name, "magnetic": is_magnetic}
    return {}


def _location(tags):
    """Fields of PhotoGeometry that tell where it was taken."""

    def degrees(name, value):
        letter = tags.text(f"{name}Ref")
        if isinstance(value, str):  # XMP: "149,6.5E" or "149,6,30E"
            value, letter = value.strip()[:-1].split(","), value.strip()[-1]
        parts = [float(part) for part in np.atleast_1d(value)]
        if not all(0 <= part <= most for part, most in zip(parts, (math.inf, 60, 60), strict=False)):
            raise ValueError
        found = sum(part / 60**power for power, part in enumerate(parts))
        return {"N": found, "E": found, "S": -found, "W": -found}[letter.upper()]

    names = ("GPSLongitude", "GPSLatitude")
    longitude, latitude = (tags.read(name, lambda value, name=name: degrees(name, value)) for name in names)
    if longitude is None or latitude is None:
        return {}
    unknown = "0 with longitude 0 stands for an unknown place" if longitude == latitude == 0 else None
    void = "GPSStatus V: its receiver had no fix" if tags.text("GPSStatus").upper() == "V" else None
    if problem := unknown or void or problem_of(longitude, latitude):
        tags.unused["GPSLatitude"] = problem
        return {}
    datum = tags.text("GPSMapDatum")
    if "".join(filter(str.isalnum, datum)).upper() not in DATUMS:
        tags.unused["GPSMapDatum"] = f"{shortened(datum, 40)!r}: the place is taken as WGS 84's"
    return {"location": (longitude, latitude), "accuracy": tags.number("GPSHPositioningError", 0, MOST_METRES)}


def _time(tags):
    """By the camera's clock if its zone is known, else by GPS, else by the camera's clock; None if neither tells."""
    parse, fraction = datetime.datetime.fromisoformat, tags.text("SubsecTimeOriginal")[:6]

    def offset(value):
        return parse("2000-01-01T00:00:00" + str(value).strip("\0 :").replace("Z", "+00:00")).tzinfo

    def taken(value):
        text = str(value).strip("\0 ").replace("Z", "+00:00")
        # EXIF has in several tags what XMP has in one.
        time = parse(text[:10].replace(":", "-") + text[10:] + f".{fraction:0<6}" * (fraction.isdecimal() and len(text) == 19))
        return time if time.tzinfo else time.replace(tzinfo=tags.read("OffsetTimeOriginal", offset))

    def fix(clock):
        hours, minutes, seconds = map(float, clock)
        if not (0 <= hours < 24 and 0 <= minutes < 60 and 0 <= seconds <= 60):  # 60: a leap second
            raise ValueError
        midnight = parse(tags.text("GPSDateStamp").replace(":", "-") + "T00:00:00+00:00")
        return midnight + datetime.timedelta(hours=hours, minutes=minutes, seconds=seconds)

    by_camera = tags.read("DateTimeOriginal", taken)
    by_gps = tags.read("GPSTimeStamp", fix) if "GPSDateStamp" in tags.values else None
    if "OffsetTimeOriginal" in tags.unused:
        tags.unused["OffsetTimeOriginal"] += f"; the time is taken {'as UTC' if by_gps is None else 'from GPS'}"
    return by_camera if by_gps is None or by_camera and by_camera.tzinfo else by_gps
