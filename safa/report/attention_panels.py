"""Panels of attention: which positions of a map the descriptors rest on."""

import math

import cv2
import numpy as np

from polar_transform import tile_of_polar
from safa.report.canvas import GREY, TEXT, Canvas, fitted

ROW = 120  # height of an image in pixels
GAP, CAPTION = 10, TEXT + 6
OPACITY = 0.55  # of the colours over the image
LIMIT = 99.0  # percentile of the absolute values that has the full colour


def spread_over(values, shape):
    """Values of a map's positions over the pixels of its input: (h, w) -> (H, W) float32, bilinearly.

    A position lies in the middle of the pixels that its poolings join; TensorFlow pads at the bottom and at the right.
    """
    stride = 2 ** math.ceil(math.log2(shape[0] / values.shape[0]) - 1e-9)
    size = values.shape[1] * stride, values.shape[0] * stride
    return cv2.resize(values.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)[: shape[0], : shape[1]]


def coloured(image, values, limit):
    """An image under its values: warm colours are positive, cold ones negative, nothing at 0.

    Args:
        image: (H, W, 3) uint8, BGR.
        values: (H, W) float32.
        limit: absolute value of the full colour.
    """
    import matplotlib

    scaled = np.clip(values / limit, -1, 1) if limit > 0 else np.zeros_like(values)
    colours = 255 * matplotlib.colormaps["coolwarm"](0.5 + scaled / 2)[..., 2::-1]
    opacity = OPACITY * np.sqrt(np.abs(scaled))[..., None]
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    return np.rint((1 - opacity) * grey + opacity * colours).astype(np.uint8)


def limit_of(values):
    """The absolute value that has the full colour."""
    return float(np.percentile(np.abs(values), LIMIT))


def attention_panel(title, columns):
    """A panel: a column of captioned images a view.

    Args:
        title: line of text.
        columns: lists of (caption, (H, W, 3) uint8 BGR image).

    Returns:
        (H, W, 3) uint8, BGR.
    """
    columns = [[(caption, fitted(image, height=ROW)) for caption, image in column] for column in columns]
    widths = [max(image.shape[1] for _, image in column) for column in columns]
    rows = max(len(column) for column in columns)
    canvas = Canvas(sum(widths) + GAP * (len(widths) + 1), GAP + CAPTION + rows * (CAPTION + ROW + GAP))
    canvas.write(title, GAP, GAP, width=sum(widths))
    left = GAP
    for column, width in zip(columns, widths, strict=True):
        for number, (caption, image) in enumerate(column):
            top = GAP + CAPTION + number * (CAPTION + ROW + GAP)
            canvas.write(caption, left, top, GREY, width=width)
            canvas.put(image, left, top + CAPTION)
        left += width + GAP
    return canvas.pixels


def on_tile(tile, values):
    """The values over a polar map's pixels on its north-up tile: (H, W) float32 -> (S, S) float32; corners are 0."""
    warped, reached = tile_of_polar(values, tile.shape[0])
    return np.where(reached, warped, 0).astype(np.float32)
