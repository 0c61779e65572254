"""A plain map of an index's tiles, with marks on it."""

import dataclasses
import math

import cv2
import numpy as np

from safa.report.canvas import BLUE, GREEN, INK, RED, Canvas

SIDE = 760  # pixels of the longer side of a map
MARGIN = 36  # pixels around the tiles' centres
MOST_PASTED = 20_000  # thumbnails on a map; of more tiles every second, third, ... is pasted
MARK = 9  # pixels, radius of a mark
BACKGROUND, DOT = (235, 235, 235), (150, 150, 150)
TRUTH, BEST, OTHER = BLUE, GREEN, RED  # colours of marks, RGB
ROUND_METRES = (1, 2, 5)


@dataclasses.dataclass(frozen=True)
class Mark:
    """A mark on a map: metres east and north, a short text, an RGB colour."""

    metres: tuple
    text: str
    colour: tuple


class TileMap:
    """A map of all tiles of an index, north up: thumbnails of the imagery where it has some, else dots.

    Args:
        index: index.Index.
    """

    def __init__(self, index):
        low, high = index.metres.min(axis=0), index.metres.max(axis=0)
        extent = max(float((high - low).max()), index.note.tile_metres)
        self._scale = (SIDE - 2 * MARGIN) / extent  # pixels a metre
        middle = (low + high) / 2
        width, height = (math.ceil(max(size, extent / 3) * self._scale) + 2 * MARGIN for size in (high - low).tolist())
        self._origin = middle - np.array([width, -height]) / 2 / self._scale
        self._base = np.full((height, width, 3), BACKGROUND, np.uint8)
        self._draw_tiles(index)

    def _pixels(self, metres):
        """(n, 2) metres east and north -> (n, 2) pixels right and down."""
        return (np.asarray(metres, np.float64).reshape(-1, 2) - self._origin) * (self._scale, -self._scale)

    def _draw_tiles(self, index):
        centres = self._pixels(index.metres)
        step = max(1, math.ceil(len(index) / MOST_PASTED))
        # Neighbours overlap: of each tile only what lies nearest to its own centre is shown.
        shown = min((index.note.spacing or math.inf) * math.sqrt(step), index.note.tile_metres)
        side = max(1, math.ceil(shown * self._scale))
        for row in range(0, len(index), step):
            thumbnail = index.thumbnail(row)
            if thumbnail is None:
                x, y = np.round(centres[row]).astype(int).tolist()
                cv2.circle(self._base, (x, y), 1, DOT, -1)
                continue
            kept = min(len(thumbnail), max(1, round(len(thumbnail) * shown / index.note.tile_metres)))
            first = (len(thumbnail) - kept) // 2
            patch = cv2.resize(
                thumbnail[first : first + kept, first : first + kept], (side, side), interpolation=cv2.INTER_AREA
            )
            left, top = np.floor(centres[row] - side / 2).astype(int).tolist()
            height, width = self._base.shape[:2]
            x, y = max(left, 0), max(top, 0)
            end_x, end_y = min(left + side, width), min(top + side, height)
            if x < end_x and y < end_y:
                self._base[y:end_y, x:end_x] = patch[y - top : end_y - top, x - left : end_x - left]

    def draw(self, marks, path=None):
        """The map with marks.

        Args:
            marks: list of Mark; the first ones lie on top. One outside the map lies at its edge.
            path: (n, 2) metres of a line below the marks, or None.

        Returns:
            (H, W, 3) uint8, BGR.
        """
        picture = self._base.copy()
        height, width = picture.shape[:2]
        if path is not None:
            line = np.round(self._pixels(path)).astype(np.int32)
            cv2.polylines(picture, [line], False, (255, 255, 255), 4, cv2.LINE_AA)
            cv2.polylines(picture, [line], False, BEST[::-1], 2, cv2.LINE_AA)
        for mark in reversed(marks):
            x, y = np.round(self._pixels(mark.metres)[0]).astype(int).tolist()
            x, y = min(max(x, MARK + 2), width - MARK - 3), min(max(y, MARK + 2), height - MARK - 3)
            cv2.circle(picture, (x, y), MARK + 2, (255, 255, 255), -1, cv2.LINE_AA)
            cv2.circle(picture, (x, y), MARK, mark.colour[::-1], -1, cv2.LINE_AA)
            size = cv2.getTextSize(mark.text, cv2.FONT_HERSHEY_SIMPLEX, 0.4, 1)[0]
            place = x - size[0] // 2, y + size[1] // 2
            cv2.putText(picture, mark.text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1, cv2.LINE_AA)
        canvas = Canvas(width, height + 28)
        canvas.put(picture, 0, 0)
        length = _round_length(width / 4 / self._scale)
        bar = round(length * self._scale)
        canvas.put(np.full((4, bar, 3), INK, np.uint8), MARGIN, height + 12)
        canvas.write(f"{length:g} m" if length < 1000 else f"{length / 1000:g} km", MARGIN + bar + 8, height + 5)
        canvas.write("north is up", width - 110, height + 5)
        return canvas.pixels


def _round_length(metres):
    """The longest of 1, 2, 5, 10, 20, 50, ... that is not longer."""
    power = 10 ** math.floor(math.log10(metres))
    return max(digit * power for digit in ROUND_METRES if digit * power <= metres * (1 + 1e-9))
