"""Pictures of captioned images, drawn by matplotlib without a screen. Localisation draws with the same functions.

Rows of images, each with a caption above and perhaps a frame:

    figure = image_rows([[Shown(panorama, "query")], [Shown(tile, "1: 0.812", HIT), ...]], "CVUSA val 0000030")
    write_whole(path, file_bytes(figure))  # or bgr_pixels(figure), for `page.photo`

Axes of your own, a map for instance: `figure = new_figure(width, height)` in pixels, then `figure.add_axes(...)` and whatever
matplotlib draws, and the same ends. A name from a file goes through `errors.shortened` before it becomes a text; then
`file_bytes` and `bgr_pixels` draw it as it is, whatever characters it has.
"""

import contextlib
import dataclasses
import io
import warnings

import cv2
import numpy as np

from safa.runtime.errors import shortened

HIT, WRONG, TRUTH, INK, SOFT = "#008c3c", "#cd281e", "#285ac8", "#222222", "#5a5a5a"
DPI = 100  # a point is 1.4 pixels
WIDTH = 1120  # pixels of a picture: the page's text is as wide
TALLEST = 240  # pixels of an image
GAP, LINE = 12, 20  # pixels between images, and of a line of text
FRAME = 4  # points
TEXT = 9.5  # points


@dataclasses.dataclass(frozen=True)
class Shown:
    """An image of a picture.

    Attributes:
        image: (H, W, 3) uint8, BGR.
        caption: its text, of one or several lines; what is wider than the image is left out.
        frame: colour of its frame, or None.
    """

    image: np.ndarray
    caption: str = ""
    frame: str | None = None


def new_figure(width, height):
    """A matplotlib Figure of so many pixels."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width / DPI, height / DPI), dpi=DPI)


def pixel_axes(figure):
    """Invisible matplotlib Axes all over a Figure whose coordinates are its pixels, from the upper left corner."""
    width, height = figure.bbox.size
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0), autoscale_on=False)
    axes.set_axis_off()
    return axes


def image_rows(rows, title="", tallest=TALLEST):
    """A matplotlib Figure of rows of images; those of a row have one height, at most `tallest` pixels, and fill the width.

    Args:
        rows: lists of Shown, at least one each.
        title: a line above them.
    """
    ratios = [[each.image.shape[1] / each.image.shape[0] for each in row] for row in rows]
    heights = [min(tallest, round((WIDTH - GAP * (len(row) + 1)) / sum(row))) for row in ratios]
    widths = [[max(1, round(height * ratio)) for ratio in row] for row, height in zip(ratios, heights, strict=True)]
    lines = [max(len(each.caption.splitlines()) for each in row) for row in rows]
    whole = max(sum(row) + GAP * (len(row) + 1) for row in widths)
    figure = new_figure(whole, sum(heights) + LINE * (sum(lines) + bool(title)) + GAP * (len(rows) + 1))
    axes, top = pixel_axes(figure), GAP
    if title:
        write_line(axes, title, GAP, top, whole - 2 * GAP, INK)
        top += LINE
    for row, row_widths, height, count in zip(rows, widths, heights, lines, strict=True):
        left = GAP
        for each, width in zip(row, row_widths, strict=True):
            for number, line in enumerate(each.caption.splitlines()):
                write_line(axes, line, left, top + number * LINE, width)
            put_image(axes, each.image, left, top + count * LINE, width, height, each.frame)
            left += width + GAP
        top += count * LINE + height + GAP
    return figure


def put_image(axes, image, left, top, width, height, frame=None):
    """Draw a BGR image on pixel axes; `frame`: colour of a frame around it, or None."""
    from matplotlib.patches import Rectangle

    extent = left, left + width, top + height, top
    axes.imshow(fitted(image, width, height)[..., ::-1], extent=extent, aspect="auto", interpolation="nearest")
    if frame is not None:
        axes.add_patch(Rectangle((left, top), width, height, fill=False, edgecolor=frame, linewidth=FRAME, joinstyle="miter"))


def write_line(axes, text, left, top, width, colour=SOFT):
    """Write a line of text on pixel axes, cut off after `width` pixels."""
    drawn = axes.text(
        left, top + LINE / 2, shortened(text), color=colour, fontsize=TEXT, va="center_baseline", parse_math=False
    )
    with _any_characters():
        while (found := drawn.get_window_extent().width) > width and drawn.get_text():
            kept = drawn.get_text().removesuffix("…")
            drawn.set_text(kept[: min(len(kept) - 1, int(len(kept) * width / found))].rstrip() + "…" * (len(kept) > 1))


def fitted(image, width, height):
    """An image at another size, (H, W, 3) uint8."""
    smaller = height * width < image.shape[0] * image.shape[1]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)


def file_bytes(figure, kind="png"):
    """The file of a matplotlib Figure, a PNG or another kind that matplotlib writes."""
    content = io.BytesIO()
    with _any_characters(figure):
        figure.savefig(content, format=kind, **({"pil_kwargs": {"compress_level": 4}} if kind == "png" else {}))
    return content.getvalue()


def bgr_pixels(figure):
    """A matplotlib Figure as (H, W, 3) uint8, BGR."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    with _any_characters(figure):
        canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., 2::-1])


@contextlib.contextmanager
def _any_characters(figure=None):
    """A context in which a "$" of a name is no formula, and characters that the font lacks are boxes without a warning."""
    if figure is not None and any(axes.axison for axes in figure.axes):  # pixel axes have `write_line`, and slow ticks
        for text in figure.findobj(lambda artist: hasattr(artist, "set_parse_math")):
            text.set_parse_math(False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        yield
