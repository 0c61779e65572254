"""What a photo's own tags say about its geometry: XMP of photo spheres (Google's GPano), and EXIF with its GPS part."""

import contextlib
import dataclasses
import datetime
import fractions
import math

import numpy as np

from safa.localization.coordinates import needed, problem_of
from safa.runtime.errors import first_line, shortened
from safa.runtime.files import ordinary
from safa.settings import FULL_CIRCLE

FORMATS = ("JPEG", "PNG")
NAMESPACES = ("{http://ns.google.com/photos/1.0/panorama", "{http://ns.adobe.com/exif/1.0")
SPHERE = "equirectangular"
FULL = ("FullPanoWidthPixels", "FullPanoHeightPixels")
CROPPED = tuple(f"CroppedArea{name}Pixels" for name in ("ImageWidth", "ImageHeight", "Left", "Top"))
MOST_SIDE = 1e6  # pixels of a full sphere
OTHER_SHAPE = 0.01  # share by which proportions may differ: sizes are rounded, by some to whole blocks of a JPEG


@dataclasses.dataclass(frozen=True)
class PhotoGeometry:
    """What a photo says about its geometry; None, or the default, where it says nothing that can be used.

    Attributes:
        projection: in lower case.
        orientation: EXIF's, 1 to 8: how the stored pixels have to be turned and mirrored.
        fov, vertical_fov: degrees that the upright photo shows of its sphere.
        horizon: its height in the photo: 0 is the top, 1 the bottom; outside of these if it is cut off.
        offset: degrees to the right from the sphere's centre to the photo's.
        heading: degrees clockwise from north of the photo's centre column; heading_tag: which says it.
        magnetic: whether that counts from magnetic north.
        pitch, roll: degrees that the sphere's centre looks up, and that the camera's right side is down.
        longitude, latitude: degrees (WGS 84) of a rough place; accuracy: its error in metres.
        time: it knows its zone if the photo says one.
        unused: (tag, why) of those that are there and cannot be used.
    """

    projection: str = SPHERE
    orientation: int = 1
    fov: float | None = None
    vertical_fov: float | None = None
    horizon: float | None = None
    offset: float = 0.0
    heading: float | None = None
    heading_tag: str | None = None
    magnetic: bool = False
    pitch: float = 0.0
    roll: float = 0.0
    longitude: float | None = None
    latitude: float | None = None
    accuracy: float | None = None
    time: datetime.datetime | None = None
    unused: tuple[tuple[str, str], ...] = ()

    @property
    def location(self):
        """Longitude and latitude, or None."""
        return None if self.longitude is None else (self.longitude, self.latitude)

    @property
    def tilt(self):
        """Degrees between the camera's vertical and the true one."""
        return math.degrees(math.acos(math.cos(math.radians(self.pitch)) * math.cos(math.radians(self.roll))))


def photo_geometry(path) -> PhotoGeometry:
    """The PhotoGeometry of a JPEG or PNG file. Whatever that holds, a UserError is raised for a missing package alone."""
    tags = _Tags(path)
    fields = {"projection": shortened(tags.values.get("ProjectionType", SPHERE), 40).strip().lower()}
    fields["orientation"] = int(tags.number("Orientation", 0, 8) or 1)
    fields["pitch"] = tags.number("PosePitchDegrees", -90, 90) or 0.0
    fields["roll"] = tags.number("PoseRollDegrees", -FULL_CIRCLE, FULL_CIRCLE) or 0.0
    fields |= _crop(tags)
    fields |= _heading(tags, fields.get("offset", 0.0), fields["pitch"] == fields["roll"] == 0)
    return PhotoGeometry(**fields, **_location(tags), time=_time(tags), unused=tuple(tags.unused.items()))


class _Tags:
    """The tags of a photo.

    Attributes:
        size: (width, height) of the upright photo.
        values: {EXIF's or GPano's name: value as EXIF or XMP has it}; EXIF comes first.
        unused: {name: why}.
    """

    def __init__(self, path):
        from PIL import Image

        self.size, self.values, self.unused, packet = (1, 1), {}, {}, b""
        try:
            with open(path, "rb", opener=ordinary) as file, Image.open(file, formats=FORMATS) as image:
                if image.format == "PNG":
                    image.load()  # tags may stand behind the pixels
                self.size, packet = image.size, image.info.get("xmp", b"").rstrip(b"\0 ")
                self._add_exif(image.getexif())
        except Exception as error:  # broken files raise many kinds; whoever reads the pixels says more
            self.unused["EXIF"] = first_line(error)
        parse = needed("defusedxml.ElementTree").fromstring if packet else None
        try:
            for element in parse(packet).iter() if packet else ():
                for name, text in ((element.tag, element.text), *element.attrib.items()):
                    if name.startswith(NAMESPACES):
                        self.values.setdefault(name.rpartition("}")[2], text or "")
        except Exception as error:  # damaged ones, and hostile ones (entities)
            self.unused["XMP"] = first_line(error)

    def _add_exif(self, exif):
        from PIL.ExifTags import GPSTAGS, IFD, TAGS, Base

        if (orientation := exif.get(Base.Orientation)) is not None:
            self.values["Orientation"] = orientation
            self.size = self.size[::-1] if orientation in (5, 6, 7, 8) else self.size
        for part, names in ((IFD.Exif, TAGS), (IFD.GPSInfo, GPSTAGS)):
            self.values |= {names[number]: value for number, value in exif.get_ifd(part).items() if number in names}

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
        return str(self.values.get(name, "")).strip("\0 ")


def _crop(tags):
    """Fields of PhotoGeometry that the tags of a cropped sphere tell."""
    if tags.values.keys().isdisjoint(FULL + CROPPED):
        return {}
    full_width, full_height, width, height, left, top = numbers = [tags.number(name, 0, MOST_SIDE) for name in FULL + CROPPED]
    shown, why = tags.size, None
    if None in numbers:
        why = "its numbers are not complete"
    elif not (0 < width <= full_width and left <= full_width and 0 < height <= full_height - top):
        why = "lies outside its full sphere"
    elif abs(full_width - 2 * full_height) > OTHER_SHAPE * full_width:
        why = "its full sphere is not twice as wide as high"
    elif abs(shown[0] * height - shown[1] * width) > OTHER_SHAPE * shown[0] * height:
        why = f"is of other proportions than {shown[0]}x{shown[1]} pixels"
    if why:
        tags.unused["CroppedArea"] = why
        return {}
    fov, vertical_fov = FULL_CIRCLE * width / full_width, FULL_CIRCLE / 2 * height / full_height
    offset = FULL_CIRCLE * ((left + width / 2) / full_width - 0.5)
    return {"fov": fov, "vertical_fov": vertical_fov, "horizon": (full_height / 2 - top) / height, "offset": offset}


def _heading(tags, offset, is_level):
    """Fields of PhotoGeometry that tell the heading of the photo's centre."""
    heading = tags.number("PoseHeadingDegrees")
    if heading == 0 and is_level and {"PosePitchDegrees", "PoseRollDegrees"} <= tags.values.keys():
        tags.unused["PoseHeadingDegrees"] = "0 with pitch 0 and roll 0 stands for an unknown one"  # GoPro's have no compass
    elif heading is not None:  # of the centre of the full sphere
        return {"heading": (heading + offset) % FULL_CIRCLE, "heading_tag": "PoseHeadingDegrees"}
    for name in ("GPSImgDirection", "GPSTrack"):
        if (heading := tags.number(name)) is not None:
            magnetic = tags.text(f"{name}Ref").upper() == "M"
            return {"heading": heading % FULL_CIRCLE, "heading_tag": name, "magnetic": magnetic}
    return {}


def _location(tags):
    """Fields of PhotoGeometry that tell where it was taken."""

    def degrees(value, letter):
        if isinstance(value, str):  # XMP: "149,6.5E" or "149,6,30E"
            value, letter = value.strip()[:-1].split(","), value.strip()[-1]
        found = sum(float(part) / 60**power for power, part in enumerate(np.atleast_1d(value)))
        return {"N": found, "E": found, "S": -found, "W": -found}[letter.upper()]

    longitude, latitude = (
        tags.read(name, lambda value, name=name: degrees(value, tags.text(f"{name}Ref")))
        for name in ("GPSLongitude", "GPSLatitude")
    )
    if longitude is None or latitude is None:
        return {}
    problem = (
        "0 with longitude 0 stands for an unknown place" if longitude == latitude == 0 else problem_of(longitude, latitude)
    )
    if problem:
        tags.unused["GPSLatitude"] = problem
        return {}
    return {"longitude": longitude, "latitude": latitude, "accuracy": tags.number("GPSHPositioningError", 0)}


def _time(tags):
    """By the camera's clock if its zone is known, else by GPS, else by the camera's clock; None if neither tells."""
    parse, fraction = datetime.datetime.fromisoformat, tags.text("SubsecTimeOriginal")[:6]
    # EXIF has in several tags what XMP has in one.
    rest = f".{fraction:0<6}" * fraction.isdecimal() + tags.text("OffsetTimeOriginal")

    def taken(value):
        text = str(value).strip("\0 ").replace("Z", "+00:00")
        return parse(text[:10].replace(":", "-") + text[10:] + rest * (len(text) == 19))

    def fix(clock):
        hours, minutes, seconds = map(float, clock)
        midnight = parse(f"{tags.text('GPSDateStamp').replace(':', '-')}T00:00:00+00:00")
        return midnight + datetime.timedelta(hours=hours, minutes=minutes, seconds=seconds)

    by_camera = tags.read("DateTimeOriginal", taken)
    if by_camera is not None and by_camera.tzinfo or "GPSDateStamp" not in tags.values:
        return by_camera
    return tags.read("GPSTimeStamp", fix) or by_camera
