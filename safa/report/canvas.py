"""Pictures composed of images, frames and text, on white."""

import functools
import io
import os

import cv2
import numpy as np

from safa.runtime.errors import shortened
from safa.runtime.files import write_whole

INK, GREY, GREEN, RED, BLUE = (34, 34, 34), (120, 120, 120), (0, 140, 60), (205, 40, 40), (40, 90, 200)  # RGB
TEXT = 15  # pixels
LONGEST_TEXT = 400  # characters
PNG_LEVEL = 4  # of compression: 4 % more bytes than the highest, in an eighth of its time


class Canvas:
    """A picture that grows by what is put on it.

    Args:
        width, height: in pixels.
    """

    def __init__(self, width, height):
        from PIL import Image, ImageDraw

        self._image = Image.new("RGB", (width, height), "white")
        self._draw = ImageDraw.Draw(self._image)

    def put(self, image, left, top, frame=None, thickness=0):
        """Put a BGR uint8 image; a frame of an RGB colour surrounds it on the outside."""
        from PIL import Image

        height, width = image.shape[:2]
        if frame is not None:
            box = left - thickness, top - thickness, left + width + thickness - 1, top + height + thickness - 1
            self._draw.rectangle(box, fill=frame)
        self._image.paste(Image.fromarray(np.ascontiguousarray(image[..., ::-1])), (left, top))

    def write(self, text, left, top, colour=INK, size=TEXT, width=None):
        """Write a line of text; what does not fit into `width` pixels is left out."""
        font, text = _font(size), shortened(text, LONGEST_TEXT)
        if width is not None and font.getlength(text) > width:
            while text and font.getlength(text + "…") > width:
                text = text[:-1]
            text += "…"
        self._draw.text((left, top), text, colour, font)

    @property
    def pixels(self):
        """(H, W, 3) uint8, BGR."""
        return np.asarray(self._image)[..., ::-1]


def save_png(path, pixels):
    """Write a BGR picture as PNG.

    Raises:
        OSError: the file cannot be written.
    """
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels[..., ::-1])).save(content, "PNG", compress_level=PNG_LEVEL)
    write_whole(path, content.getbuffer())


def fitted(image, width=None, height=None):
    """An image scaled to a width or a height, its ratio kept; uint8."""
    scale = width / image.shape[1] if height is None else height / image.shape[0]
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


def stacked(pictures, columns, gap=16):
    """Pictures of one width in columns, row by row, on white: a contact sheet."""
    rows = [pictures[start : start + columns] for start in range(0, len(pictures), columns)]
    width = max(picture.shape[1] for picture in pictures)
    canvas = Canvas(columns * (width + gap) + gap, sum(max(each.shape[0] for each in row) + gap for row in rows) + gap)
    top = gap
    for row in rows:
        for number, picture in enumerate(row):
            canvas.put(picture, gap + number * (width + gap), top)
        top += max(each.shape[0] for each in row) + gap
    return canvas.pixels


@functools.lru_cache
def _font(size):
    """Matplotlib's own font, so that pictures look alike everywhere."""
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(os.path.join(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), size)
