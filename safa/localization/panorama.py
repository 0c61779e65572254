"""A panorama of any equirectangular size as the ground branch takes it, turned to north or to any assumed heading."""

import collections
import dataclasses
import os

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from safa.datasets.image_files import ImageError, by_pixels, read_image
from safa.datasets.preparation import PREPARED_SIZE
from safa.localization.photo_geometry import SPHERE, PhotoGeometry, photo_geometry
from safa.localization.rough_position import RoughPosition, rough_position
from safa.runtime.errors import UserError, first_few, first_line, shortened
from safa.settings import FULL_CIRCLE

MOST_VERTICAL_FOV = 181.0  # degrees: a whole sphere has 180, and sizes are whole pixels
LEVEL_DETAIL = 2  # pixels of a levelled sphere, each way, for one of the network's
FEW_DEGREES = 2.0  # of tilt, which cost little (docs/localisation.md)
FAR_METRES = 1e5  # from all tiles: not the next town, but a mistake in coordinates


@dataclasses.dataclass(frozen=True)
class Panorama:
    """A query; None for what is not known, or not there."""

    path: str
    heading: float | None  # degrees clockwise from north of its centre column
    heading_source: str  # where that is known from: "given", "list", "photo", "track", "assumed", "unknown"
    location: tuple[float, float] | None = None  # longitude and latitude where it is known to be taken
    true_heading: float | None = None  # of a list or tag, that a search with unknown heading does not use, to compare with
    photo: PhotoGeometry = PhotoGeometry()  # what its own tags say
    rough: RoughPosition | None = None  # to search around
    image: np.ndarray | None = None  # (H, W, 3) uint8, BGR; None: `path` is read
    problem: str | None = None  # why it cannot be used
    track: tuple[float, float] | None = None  # longitude and latitude of a GPX track at its time


def asked_panorama(asked, config, heading=None, location=None, accuracy=None):
    """The Panorama that a query asks for, with its rough position; what is wrong with a photo is its `problem`.

    Its heading is unknown if the config says so; else the first that is known of the config's, the list's and the photo's own
    tags; else 0: its centre column looks north, as in the paper's datasets. Its known location is the list's: a photo's is
    rough, and counts as known only if the config's truth is "exif". What the search uses as a position is not the truth.

    Args:
        asked: path, (H, W, 3) uint8 BGR array, or a Panorama, which is returned as it is.
        config: places.QueryConfig.
        heading, location, accuracy: a list's, or None.
    """
    if isinstance(asked, Panorama):
        return asked
    if isinstance(asked, np.ndarray):
        path, image, photo = "array", asked, PhotoGeometry()
    elif isinstance(asked, (str, os.PathLike)):
        path, image = os.fspath(asked), None
        try:
            if not os.path.isfile(path):  # a pipe would wait for its writer
                raise UserError(f"{shortened(path)}: missing, or not a file")
            photo = photo_geometry(path)
        except (OSError, ValueError, UserError) as error:
            return Panorama(path, None, "unknown", location, problem=first_line(error))
    else:
        raise UserError(f"{shortened(repr(asked))}: a panorama is a path, the bytes of a file, or an array of pixels")
    rough = rough_position(config, location, accuracy, photo)
    tagged = photo.location if config.truth == "exif" else None
    if rough is None:
        location = location or tagged
    elif config.gps_from == "list":
        location = location and tagged
    true_heading = None
    if config.unknown_heading:
        true_heading = photo.heading if heading is None and config.truth == "exif" else heading
        found, source = None, "unknown"
    else:
        known = (config.heading, "given"), (heading, "list"), (photo.heading, "photo"), (0.0, "assumed")
        found, source = next(each for each in known if each[0] is not None)
        found %= FULL_CIRCLE
    return Panorama(path, found, source, location, true_heading, photo, rough, image)


def photo_notes(panoramas, index, config):
    """Yield lines on what is known of panoramas: what their tags say, and what deserves a second look."""
    photos = [panorama.photo for panorama in panoramas]
    headings = [panorama.photo for panorama in panoramas if panorama.heading_source == "photo"]
    counts = {
        "headings": len(headings),
        "of these directions of travel (GPSTrack)": sum(photo.heading_tag == "GPSTrack" for photo in headings),
        "of these magnetic, not corrected": sum(photo.magnetic for photo in headings),
        "crops": sum(photo.fov is not None for photo in photos),
        "orientations": sum(photo.orientation > 1 for photo in photos),
        "rough places": sum(photo.location is not None for photo in photos),
    }
    if any(counts.values()):
        said = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
        yield f"tags of {len(photos):,} photos: {said}; flags and lists come first"
    if assumed := sum(panorama.heading_source == "assumed" for panorama in panoramas):
        yield f"{assumed:,} photos say no heading; north is assumed; --unknown_heading tries all"
    if len(headings) == len(photos) > 1 and len({photo.heading for photo in headings}) == 1:
        yield f"warning: all photos say heading {headings[0].heading:g}; if that is a placeholder, use --unknown_heading"
    if config.truth == "exif" and all(panorama.location is None for panorama in panoramas):
        yield "warning: --truth exif: no photo says a position that is not searched around; nothing is compared"
    tilted = [photo.tilt for photo in photos if photo.tilt > FEW_DEGREES]
    if tilted and not config.level:
        yield f"warning: {len(tilted):,} photos say that they are tilted, by up to {max(tilted):.1f} degrees; try --level"
    if far := far_outside(panoramas, index):
        yield f"warning: {len(far):,} known locations lie far outside the index: {first_few(far)}"
    unused = [(tag, f"{shortened(each.path)}: {why}") for each in panoramas for tag, why in each.photo.unused]
    for tag, count in collections.Counter(tag for tag, _ in unused).items():
        yield f"warning: {tag} of {count:,} photos is not used; {dict(reversed(unused))[tag]}"


def far_outside(panoramas, index):
    """Paths of the panoramas whose known location is more than FAR_METRES from all tiles of an Index, with kilometres."""
    located = [panorama for panorama in panoramas if panorama.location is not None]
    metres, _ = index.tree.query(index.frame.metres([panorama.location for panorama in located]))
    return [f"{own.path} {far / 1000:,.0f} km" for own, far in zip(located, metres, strict=True) if far > FAR_METRES]


def read_upright(panorama: Panorama):
    """A panorama's pixels as its tag of orientation says that they are seen: (H, W, 3) uint8, BGR.

    Raises:
        ImageError: the image cannot be read, or is an array of another kind.
    """
    if (image := panorama.image) is not None:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            kind = f"{image.dtype} of shape {image.shape}"
            raise ImageError(f"{panorama.path}: {kind}, not (height, width, 3) uint8 of BGR pixels")
        return image
    image, orientation = read_image(panorama.path), panorama.photo.orientation
    image = image.swapaxes(0, 1) if orientation > 4 else image
    image = image[::-1] if orientation in (3, 4, 7, 8) else image
    return np.ascontiguousarray(image[:, ::-1] if orientation in (2, 3, 6, 7) else image)


def read_canvas(panorama: Panorama, config, input_vertical_fov, fill):
    """A panorama as the whole circle that the network expects, its own centre column in the middle.

    Args:
        config: places.QueryConfig; where it leaves the view open, the photo's tags tell it, and else its size.
        input_vertical_fov: degrees from top to bottom that the network's panoramas show, around the horizon.
        fill: (3,) BGR, the network's mean colour, of the part of the circle that is not seen.

    Returns:
        (112, 616, 3), BGR, 0..255; uint8, or float32 if a part of the circle is filled.

    Raises:
        UserError: the image cannot be read, or is not a panorama.
    """
    photo = panorama.photo
    if photo.projection != SPHERE:
        raise UserError(
            f"{panorama.path}: its tags say projection {photo.projection}, not {SPHERE}; convert it, or remove the tag"
        )
    try:
        image = read_upright(panorama)
    except ImageError as error:
        raise UserError(f"{error}; name another panorama") from None
    height, width = image.shape[:2]
    fov = config.fov or photo.fov or FULL_CIRCLE
    vertical_fov = config.vertical_fov or photo.vertical_fov or fov * height / width
    horizon = next(each for each in (config.horizon, photo.horizon, 0.5) if each is not None)
    if vertical_fov > MOST_VERTICAL_FOV:
        raise UserError(
            f"{panorama.path}: {by_pixels(image.shape[:2])} pixels are not a panorama of --fov {fov:g}: from top to "
            f"bottom they would show {vertical_fov:.0f} degrees; name an equirectangular image, or the right --fov"
        )
    # The rows of the image that the network's top and bottom fall on.
    degree = height / vertical_fov
    top, bottom = (round(height * horizon + side * degree * input_vertical_fov / 2) for side in (-1, 1))
    seen = image[max(top, 0) : max(min(bottom, height), 0)]
    if not len(seen):
        raise UserError(f"{panorama.path}: shows nothing of the {input_vertical_fov:g} degrees around --horizon {horizon:g}")
    if config.level and photo.tilt:
        return _levelled(image, fov, vertical_fov, horizon, photo, input_vertical_fov, fill)
    rows, columns = PREPARED_SIZE
    first = round((max(top, 0) - top) / (bottom - top) * rows)
    last = max(first + 1, round((min(bottom, height) - top) / (bottom - top) * rows))
    across = max(1, round(columns * fov / FULL_CIRCLE))
    resized = cv2.resize(seen, (across, last - first), interpolation=cv2.INTER_AREA)
    if resized.shape[:2] == (rows, columns):
        return resized
    canvas = np.full((rows, columns, 3), fill, np.float32)
    left = (columns - across) // 2
    canvas[first:last, left : left + across] = resized
    return canvas


def _levelled(image, fov, vertical_fov, horizon, photo, input_vertical_fov, fill):
    """The canvas of a tilted camera's panorama, as `read_canvas` returns it.

    By Google's definition of a pose, a camera that looks north rolls its right side down (the horizon turns counterclockwise in
    the picture), then looks up by its pitch, then turns to its heading.
    """
    rows, columns = (LEVEL_DETAIL * side for side in PREPARED_SIZE)
    high, wide = round(rows * vertical_fov / input_vertical_fov), round(columns * fov / FULL_CIRCLE)
    high, wide = (max(1, min(sides)) for sides in zip((high, wide), image.shape, strict=False))
    image = cv2.resize(image, (wide, high), interpolation=cv2.INTER_AREA)
    image = np.concatenate([image[:, -1:], image, image[:, :1]], axis=1)  # around the circle
    east = np.radians(photo.offset + FULL_CIRCLE * ((np.arange(columns) + 0.5) / columns - 0.5))
    up = np.radians(input_vertical_fov * (0.5 - (np.arange(rows) + 0.5) / rows))[:, None]
    seen = np.stack([np.cos(up) * np.sin(east), np.cos(up) * np.cos(east), np.sin(up) + 0 * east], axis=-1)
    right, ahead, above = np.moveaxis(seen @ Rotation.from_euler("XY", [photo.pitch, photo.roll], True).as_matrix(), -1, 0)
    azimuth, elevation = np.degrees(np.arctan2(right, ahead)), np.degrees(np.arcsin(np.clip(above, -1, 1)))
    x = 0.5 + (azimuth - photo.offset + fov / 2) % FULL_CIRCLE / fov * wide
    y = (horizon - elevation / vertical_fov) * high - 0.5
    canvas = cv2.remap(image, np.float32(x), np.float32(y), cv2.INTER_LINEAR, None, cv2.BORDER_CONSTANT, fill)
    return cv2.resize(canvas, PREPARED_SIZE[::-1], interpolation=cv2.INTER_AREA)


def turned(canvas, heading, shape):
    """A canvas of `read_canvas`, whose own centre column has this heading, with north in the middle: (*shape, 3)."""
    turn = np.roll(canvas, round(heading / FULL_CIRCLE * canvas.shape[1]), axis=1)
    return turn if turn.shape[:2] == shape else cv2.resize(turn, shape[::-1], interpolation=cv2.INTER_AREA)
