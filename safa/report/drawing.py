"""Pictures of captioned images, drawn by matplotlib without a screen. Localisation draws with the same functions.

Rows of images, each with a caption above and perhaps a frame:

    figure = image_rows([[Shown(panorama, "query")], [Shown(tile, "1: 0.812", HIT), ...]], "CVUSA val 0000030")
    write_whole(path, file_bytes(figure))  # or a `page.Picture` of it

A map, for instance: `axes = pixel_axes(new_figure(width, height))`, and whatever matplotlib draws on them.
"""

import contextlib
import dataclasses
import io
import logging
import warnings

import cv2
import numpy as np

from safa.runtime.errors import shortened

HIT, WRONG, TRUTH, INK, SOFT = "#00803a", "#cd281e", "#285ac8", "#222222", "#4a4a4a"
DPI = 100  # a point is 1.4 pixels
WIDTH = 1120  # pixels of a picture: the page's text is as wide
TALLEST = 240  # pixels of an image
GAP, LINE = 12, 20  # pixels between images, and of a line of text
FRAME = 4  # points
TEXT = 9.5  # points
SAVED = {"png": {"pil_kwargs": {"compress_level": 4}}, "jpeg": {"pil_kwargs": {"quality": 85}}}


@dataclasses.dataclass(frozen=True)
class Shown:
    """An image of a picture."""

    image: np.ndarray  # (H, W, 3) uint8, BGR
    caption: str = ""  # its text, of one or several lines; what is wider than the image is left out
    frame: str | None = None  # colour of its frame

    @property
    def ratio(self):
        """Width over height."""
        return self.image.shape[1] / self.image.shape[0]


def new_figure(width, height, dpi=DPI, layout=None):
    """A matplotlib Figure of so many pixels; `layout`: as matplotlib calls it."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # of its caches and fonts
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcdefaults()  # a user's matplotlibrc may ask for LaTeX, other sizes, white lines
    return Figure((width / dpi, height / dpi), dpi, layout=layout)


def pixel_axes(figure):
    """Invisible matplotlib Axes all over a Figure whose coordinates are its pixels, from the upper left corner."""
    width, height = figure.bbox.size
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0), autoscale_on=False)
    axes.set_axis_off()
    return axes


def image_rows(rows, title="", tallest=TALLEST):
    """A matplotlib Figure of rows of Shown; those of a row have one height, at most `tallest` pixels, and fill the width."""
    placed, whole, top = [], 0, GAP + LINE * bool(title)
    for row in rows:
        height = min(tallest, round((WIDTH - GAP * (len(row) + 1)) / sum(each.ratio for each in row)))
        above, left = LINE * max(len(each.caption.splitlines()) for each in row), GAP
        for each in row:
            width = max(1, round(height * each.ratio))
            placed.append((each, left, top, above, width, height))
            left += width + GAP
        whole, top = max(whole, left), top + above + height + GAP
    axes = pixel_axes(new_figure(whole, top))
    write_line(axes, title, GAP, GAP, whole - 2 * GAP, INK)
    for each, left, top, above, width, height in placed:
        for number, line in enumerate(each.caption.splitlines()):
            write_line(axes, line, left, top + number * LINE, width)
        put_image(axes, each.image, left, top + above, width, height, each.frame)
    return axes.figure


def put_image(axes, image, left, top, width, height, frame=None):
    """Draw a BGR image on pixel axes; `frame`: colour of a frame around it, or None."""
    from matplotlib.patches import Rectangle

    extent = left, left + width, top + height, top
    axes.imshow(fitted(image, width, height)[..., ::-1], extent=extent, aspect="auto", interpolation="nearest")
    if frame is not None:
        axes.add_patch(Rectangle((left, top), width, height, fill=False, edgecolor=frame, linewidth=FRAME, joinstyle="miter"))


def write_line(axes, text, left, top, width, colour=SOFT):
    """Write a line of text on pixel axes, cut off after `width` pixels."""
    text = shortened(text)
    place = {"va": "center_baseline", "parse_math": False}
    drawn = axes.text(left, top + LINE / 2, text, color=colour, fontsize=TEXT, **place)
    with _without_warnings():
        while (found := drawn.get_window_extent().width) > width and text:
            text = text[: min(len(text) - 1, int(len(text) * width / found))].rstrip()
            drawn.set_text(text and text + "…")


def fitted(image, width, height):
    """An image at another size, (H, W, 3) uint8."""
    smaller = height * width < image.shape[0] * image.shape[1]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)


def file_bytes(figure, kind="png"):
    """The file of a matplotlib Figure: "png", "jpeg" or another kind that matplotlib writes."""
    content = io.BytesIO()
    with _without_warnings():
        figure.savefig(content, format=kind, **SAVED.get(kind, {}))
    return content.getvalue()


def bgr_pixels(figure):
    """A matplotlib Figure as (H, W, 3) uint8, BGR."""
    return cv2.imdecode(np.frombuffer(file_bytes(figure), np.uint8), cv2.IMREAD_COLOR)


@contextlib.contextmanager
def _without_warnings():
    """A context for drawing: characters that the font lacks are boxes, and what has no room is drawn small."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield
