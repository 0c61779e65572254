"""A panorama of any equirectangular size as the ground branch takes it, turned to north or to any assumed heading."""

import dataclasses
import os

import cv2
import numpy as np

from safa.datasets.image_files import ImageError, by_pixels, read_image
from safa.datasets.preparation import PREPARED_SIZE
from safa.localization.photo_tags import tagged_heading, tagged_location
from safa.localization.rough_position import RoughPosition, rough_position
from safa.runtime.errors import UserError, first_line, shortened
from safa.settings import FULL_CIRCLE

MOST_VERTICAL_FOV = 181.0  # degrees: a whole sphere has 180, and sizes are whole pixels


@dataclasses.dataclass(frozen=True)
class Panorama:
    """A query.

    Attributes:
        heading: degrees clockwise from north of its centre column, or None if it is unknown.
        heading_source: where that is known from: "given", "list", "photo", "track", "assumed", "unknown".
        location: longitude and latitude where it is known to be taken, or None.
        true_heading: the heading of a list or tag that a search with unknown heading does not use, to compare with; or None.
        rough: RoughPosition to search around, or None.
        image: (H, W, 3) uint8, BGR; None: `path` is read.
        problem: why it cannot be used, or None.
        track: longitude and latitude of a GPX track at its time, or None.
    """

    path: str
    heading: float | None
    heading_source: str
    location: tuple[float, float] | None = None
    true_heading: float | None = None
    rough: RoughPosition | None = None
    image: np.ndarray | None = None
    problem: str | None = None
    track: tuple[float, float] | None = None


def asked_panorama(asked, config, heading=None, location=None, accuracy=None):
    """The Panorama that a query asks for, with its rough position; what is wrong with a photo is its `problem`.

    Args:
        asked: path, (H, W, 3) uint8 BGR array, or a Panorama, which is returned as it is.
        config: places.QueryConfig.
        heading, location, accuracy: a list's, or None.
    """
    if isinstance(asked, Panorama):
        return asked
    if isinstance(asked, np.ndarray):
        source = "unknown" if config.unknown_heading else "assumed" if config.heading is None else "given"
        found = None if config.unknown_heading else (config.heading or 0.0) % FULL_CIRCLE
        return Panorama("array", found, source, location, image=asked)
    if not isinstance(asked, (str, os.PathLike)):
        raise UserError(f"{shortened(repr(asked))}: a panorama is a path, the bytes of a file, or an array of pixels")
    path = os.fspath(asked)
    try:
        if not os.path.isfile(path):  # a pipe would wait for its writer
            raise UserError(f"{shortened(path)}: missing, or not a file")
        rough = rough_position(path, config, location, accuracy)
        panorama = panorama_of(path, config, heading, location)
    except (OSError, ValueError, UserError) as error:
        return Panorama(path, None, "unknown", location, problem=first_line(error))
    # Where the search uses a position, it is not the truth.
    truth = panorama.location if rough is None else location if config.gps_from == "photo" else None
    return dataclasses.replace(panorama, rough=rough, location=truth)


def panorama_of(path, config, heading=None, location=None):
    """The Panorama of a file.

    Its heading is unknown if the config says so; else the first that is known of the config's, the list's and the photo's own
    tags; else 0: its centre column looks north, as in the paper's datasets.

    Args:
        config: places.QueryConfig.
        heading, location: a list's, or None.
    """
    location = location or tagged_location(path)
    if config.unknown_heading:
        return Panorama(path, None, "unknown", location, tagged_heading(path) if heading is None else heading)
    for found, source in ((config.heading, "given"), (heading, "list"), (tagged_heading(path), "photo")):
        if found is not None:
            return Panorama(path, found % FULL_CIRCLE, source, location)
    return Panorama(path, 0.0, "assumed", location)


def read_canvas(panorama: Panorama, config, input_vertical_fov):
    """A panorama as the whole circle that the network expects, its own centre column in the middle.

    Args:
        config: places.QueryConfig.
        input_vertical_fov: degrees from top to bottom that the network's panoramas show, around the horizon.

    Returns:
        (112, 616, 3), BGR, 0..255; uint8, or float32 if a part of the circle is not seen and has the mean colour.

    Raises:
        UserError: the image cannot be read, or is not a panorama.
    """
    image = _pixels(panorama)
    height, width = image.shape[:2]
    vertical_fov = config.vertical_fov or config.fov * height / width
    if vertical_fov > MOST_VERTICAL_FOV:
        raise UserError(
            f"{panorama.path}: {by_pixels(image.shape[:2])} pixels are not a panorama of --fov {config.fov:g}: from top to "
            f"bottom they would show {vertical_fov:.0f} degrees; name an equirectangular image, or the right --fov"
        )
    # The rows of the image that the network's top and bottom fall on.
    degree = height / vertical_fov
    top, bottom = (round(height * config.horizon + side * degree * input_vertical_fov / 2) for side in (-1, 1))
    seen = image[max(top, 0) : min(bottom, height)]
    if not len(seen):
        raise UserError(
            f"{panorama.path}: shows nothing of the {input_vertical_fov:g} degrees around --horizon {config.horizon:g}"
        )
    rows, columns = PREPARED_SIZE
    first = round((max(top, 0) - top) / (bottom - top) * rows)
    last = max(first + 1, round((min(bottom, height) - top) / (bottom - top) * rows))
    across = max(1, round(columns * config.fov / FULL_CIRCLE))
    resized = cv2.resize(seen, (across, last - first), interpolation=cv2.INTER_AREA)
    if resized.shape[:2] == (rows, columns):
        return resized
    from VGG import MEAN_BGR  # imports Keras, which the network has done by now

    canvas = np.full((rows, columns, 3), MEAN_BGR, np.float32)
    left = (columns - across) // 2
    canvas[first:last, left : left + across] = resized
    return canvas


def _pixels(panorama):
    """(H, W, 3) uint8, BGR."""
    if (image := panorama.image) is not None:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise UserError(
                f"{panorama.path}: {image.dtype} of shape {image.shape}, not (height, width, 3) uint8 of BGR pixels"
            )
        return image
    try:
        return read_image(panorama.path)
    except ImageError as error:
        raise UserError(f"{error}; name another panorama") from None


def turned(canvas, headings, shape):
    """A canvas turned so that north is in the middle, for each assumed heading of its own centre column.

    Args:
        canvas: (H, W, 3) of `read_canvas`.
        headings: T degrees.
        shape: (height, width) of the network's input.

    Returns:
        (T, *shape, 3) of the same type.
    """
    turns = [np.roll(canvas, round(heading / FULL_CIRCLE * canvas.shape[1]), axis=1) for heading in headings]
    if canvas.shape[:2] != tuple(shape):
        turns = [cv2.resize(turn, shape[::-1], interpolation=cv2.INTER_AREA) for turn in turns]
    return np.stack(turns)
