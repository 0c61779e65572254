"""The polar transform: an aerial tile as seen from its centre, one column an azimuth (paper, section 3.1)."""

import functools

import cv2
import numpy as np

HEIGHT, WIDTH = 112, 616  # of a polar map, in pixels (paper, section 4)
ROWS_AT_A_TIME = 8  # what is computed then stays in the processor's cache


def sample_coordinates(size, height=HEIGHT, width=WIDTH):
    """Where each pixel of the polar map lies in the aerial tile (paper, equation 1, as the published code has it).

    Column 0 looks south and columns turn clockwise (west, north in the centre column, east); the bottom row is the
    tile's centre.

    Args:
        size: side S of the square aerial tile, in pixels.
        height, width: of the polar map, in pixels.

    Returns:
        rows, columns: (height, width) float64 each, in pixels of the tile.
    """
    radius = size / 2.0 / height * (height - 1 - np.arange(height))[:, None]
    angle = 2 * np.pi * np.arange(width) / width
    return size / 2.0 + radius * np.cos(angle), size / 2.0 - radius * np.sin(angle)


@functools.lru_cache(maxsize=4)
def _sampling(size, height, width):
    """The transform is the same for all tiles of a size: its taps and their weights.

    Returns:
        taps: {(down, right): (height, width, 2) int16}, column and row of one of each sample's four neighbours.
        weights: top, bottom, left, right, (height, width, 3) float64 each.
    """
    rows, columns = sample_coordinates(size, height, width)
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    taps = {(down, right): np.dstack([left + right, top + down]).astype(np.int16) for down in (0, 1) for right in (0, 1)}
    weights = (top + 1 - rows, rows - top, left + 1 - columns, columns - left)
    return taps, [np.repeat(weight[..., None], 3, axis=2) for weight in weights]


def polar_transform(aerial, height=HEIGHT, width=WIDTH):
    """Resample a square aerial tile to polar coordinates, bilinearly; neighbours outside the tile count as 0.

    The float64 results equal the published code's to the last bit: same products, same order of sums.

    Args:
        aerial: (S, S, 3) uint8, north at the top, S < 32,768.
        height, width: of the polar map, in pixels.

    Returns:
        (height, width, 3) float64 on the grey levels of `aerial`.

    Raises:
        ValueError: `aerial` is not square or has not three channels.
    """
    size = aerial.shape[0]
    if aerial.shape != (size, size, 3):
        raise ValueError(f"an aerial tile is (S, S, 3), not {aerial.shape}")
    taps, (top, bottom, left, right) = _sampling(size, height, width)
    # Nearest-neighbour remap at whole pixels is OpenCV's fastest gather, with the border's zeros for nothing.
    pixel = {
        corner: cv2.remap(aerial, tap, None, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
        for corner, tap in taps.items()
    }
    polar = np.empty((height, width, 3))
    for start in range(0, height, ROWS_AT_A_TIME):
        rows = slice(start, start + ROWS_AT_A_TIME)
        beside = [top[rows] * pixel[0, side][rows] + bottom[rows] * pixel[1, side][rows] for side in (0, 1)]
        np.add(beside[0] * left[rows], beside[1] * right[rows], out=polar[rows])
    return polar


def tile_of_polar(polar, size):
    """Warp a polar map, or what was computed on it, back to the north-up tile, bilinearly: `polar_transform` undone.

    Args:
        polar: (H, W) or (H, W, C), C > 1, float32 or uint8; where W is not a multiple of 4, up to half a column is lost.
        size: side S of the tile, in pixels.

    Returns:
        (S, S) or (S, S, C) of the same type; 0 in the corners, which the polar map does not reach.
    """
    # OpenCV has a row for each angle, from east on, and a column for each radius, from the centre on.
    by_angle = np.ascontiguousarray(np.roll(np.rot90(polar, -1), round(polar.shape[1] / 4), axis=0))
    return cv2.warpPolar(
        by_angle, (size, size), (size / 2, size / 2), size / 2, cv2.WARP_INVERSE_MAP | cv2.WARP_FILL_OUTLIERS | cv2.INTER_LINEAR
    )


def min_max_stretch(image):
    """Map an image's own minimum..maximum, over all pixels and channels, to 0..255.

    SciPy's former `imsave` did this to every float image, and so to the polar maps behind the published recall.

    Args:
        image: float array of any shape. A constant image divides by 1.

    Returns:
        uint8 array of the same shape.
    """
    low, high = image.min(), image.max()
    return to_uint8(image, low, 255.0 / ((high - low) or 1))


def to_uint8(image, low=0.0, scale=1.0):
    """`(image - low) * scale` rounded to the nearest grey level, halves upwards, within 0..255: float -> uint8 array."""
    grey = np.empty(image.shape, np.uint8)
    for start in range(0, len(image), ROWS_AT_A_TIME):
        rows = slice(start, start + ROWS_AT_A_TIME)
        grey[rows] = np.clip((image[rows] - low) * scale, 0, 255) + 0.5  # the cast to uint8 cuts off
    return grey
