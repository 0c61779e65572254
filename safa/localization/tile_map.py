"""A plain map of an index's tiles, with marks on it."""

import dataclasses
import math

import cv2
import numpy as np
from PIL import Image

from safa.localization.index import Index
from safa.report.drawing import HIT, INK, LINE, SOFT, WRONG, new_figure, pixel_axes, put_image, write_line

SIDE = 760  # pixels of the longer side of a map
MARGIN = 36  # pixels around the tiles' centres
STEP = 6  # pixels between the points of a grid whose nearest tiles are drawn: 16,000 at most, decoded in seconds
MARK = 9  # pixels, radius of a mark
BACKGROUND, DOT = 235, "#969696"  # grey level of what no tile shows, colour of a tile without a picture
BEST, OTHER = HIT, WRONG  # colours of marks


@dataclasses.dataclass(frozen=True)
class Mark:
    """A mark on a map: (2,) metres east and north, a short text, a colour, and matplotlib's name of a shape."""

    metres: np.ndarray
    text: str
    colour: str
    shape: str = "o"


class TileMap:
    """A map of all tiles of an index, north up: small pictures of them if the index has some, else dots."""

    def __init__(self, index: Index):
        low, high = index.metres.min(axis=0), index.metres.max(axis=0)
        extent = max(float((high - low).max()), index.manifest.recipe.tile_metres)
        self._scale = (SIDE - 2 * MARGIN) / extent
        size = np.ceil(np.maximum(high - low, extent / 3) * self._scale) + 2 * MARGIN
        self._corner = (low + high) / 2 + size / 2 / self._scale * (-1, 1)  # north-west
        width, height = size.astype(int)
        grid = np.stack(np.meshgrid(np.arange(STEP / 2, width, STEP), np.arange(STEP / 2, height, STEP)), axis=-1)
        rows = np.unique(index.tree.query(self._corner + grid.reshape(-1, 2) / self._scale * (1, -1))[1])
        side, without = max(STEP, math.ceil(index.manifest.recipe.tile_metres * self._scale)), []
        ground = Image.new("RGB", (width, height), 3 * (BACKGROUND,))  # BGR, in fact
        for row, corner in zip(rows, np.round(self.pixels(index.metres[rows]) - side / 2).astype(int).tolist(), strict=True):
            if (thumbnail := index.thumbnail(row)) is None:
                without.append(row)
            else:
                ground.paste(Image.fromarray(cv2.resize(thumbnail, (side, side), interpolation=cv2.INTER_AREA)), corner)
        self._ground, self._dots = np.asarray(ground), self.pixels(index.metres[without])

    def pixels(self, metres):
        """(n, 2) metres east and north -> (n, 2) pixels right and down."""
        return (np.asarray(metres).reshape(-1, 2) - self._corner) * (self._scale, -self._scale)

    def draw(self, marks: list[Mark], path: np.ndarray | None = None):
        """A Figure of the map with marks, the first on top, those outside at its edge, and a line along (n, 2) metres below."""
        height, width = self._ground.shape[:2]
        figure = new_figure(width, height + LINE)
        axes, point = pixel_axes(figure), 72 / figure.dpi  # points of a pixel
        put_image(axes, self._ground, 0, 0, width, height)
        axes.scatter(*self._dots.T, s=(2 * point) ** 2, color=DOT, linewidths=0)
        if path is not None:
            for colour, thickness in (("white", 4), (BEST, 2)):
                axes.plot(*self.pixels(path).T, color=colour, linewidth=thickness * point)
        circle = {"markersize": 2 * (MARK + 1) * point, "markeredgecolor": "white", "markeredgewidth": 2 * point}
        for depth, mark in enumerate(reversed(marks), start=3):
            place = np.clip(self.pixels(mark.metres)[0], MARK + 2, (width - MARK - 2, height - MARK - 2))
            axes.plot(*place, mark.shape, color=mark.colour, zorder=depth, **circle)
            axes.text(*place, mark.text, color="white", fontsize=6.5, ha="center", va="center_baseline", zorder=depth)
        longest = width / 4 / self._scale * (1 + 1e-9)
        power = 10 ** math.floor(math.log10(longest))
        metres = max(digit * power for digit in (1, 2, 5) if digit * power <= longest)  # 1, 2, 5, 10, 20, 50, ...
        bar, middle = MARGIN + metres * self._scale, height + LINE / 2
        axes.plot([MARGIN, bar], [middle, middle], color=INK, linewidth=4 * point, solid_capstyle="butt")
        length = f"{metres:g} m" if metres < 1000 else f"{metres / 1000:g} km"
        write_line(axes, f"{length}, north is up", bar + 8, height, width - bar, SOFT)
        return figure
