"""A piece of the town as a height field with materials."""

import functools
import math

import cv2
import numpy as np

from toy_town.materials import (
    CELL,
    CROWN_BASE,
    DOOR,
    GRAIN,
    MATERIAL,
    PITCH,
    ROOF,
    SHOP,
    SLOPE,
    UPRIGHT,
    WALL,
    WINDOWS,
    seamless_noise,
)

RANGE = 80.0  # metres; how far a panorama sees
LAYERS = "height", "top", "facing", "side", "side_facing", "crown", "crown_kind", "texture"  # arrays of a Scene


class Scene:
    """A piece of the town: what stands in each cell, how high, and what it is made of.

    Attributes, each (rows, columns) uint8:
        height: decimetres of solid things above the road; 0 is ground.
        top, facing: material and facing code of what is seen from above.
        side, side_facing: material and facing code of the vertical face at this cell.
        crown, crown_kind: tree crowns, which one can look underneath: height of the top in decimetres
            (0 for none), and species with side.
        texture: brightness of the top, 128 being plain; made by `finish`.
    """

    def __init__(self, column, row, columns, rows):
        """A flat meadow whose first cell is the lattice's (column, row)."""
        self.column, self.row = column, row
        self.top = np.full((rows, columns), MATERIAL["meadow"], np.uint8)
        self.height, self.facing, self.side, self.side_facing, self.crown, self.crown_kind = np.zeros(
            (6, rows, columns), np.uint8
        )
        self.texture = np.full((rows, columns), 128, np.uint8)

    def fill(self, outline, material):
        """Cover a polygon, (n, 2) metres east and south, with a ground material."""
        cv2.fillPoly(self.top, [self._fixed(outline)], MATERIAL[material], shift=4)

    def stroke(self, line, width, material):
        """Draw a line, (n, 2) metres east and south, `width` metres wide, in a ground material."""
        cv2.polylines(self.top, [self._fixed(line)], False, MATERIAL[material], max(1, round(width / CELL)), shift=4)

    def box(self, east, south, length, width, along, height, top, side):
        """Stand a box `height` metres high at a point; `top` and `side` are material numbers.

        Args:
            length, width: metres along and across the unit vector `along` = (east, south).
        """
        along, across = np.array(along) * (length / 2), np.array([-along[1], along[0]]) * (width / 2)
        points = np.array([east, south]) + np.array([along + across, across - along, -along - across, along - across, (0, 0)])
        fixed = self._fixed(points)
        rows, columns = self.top.shape
        if (fixed.max(axis=0) < 0).any() or (fixed.min(axis=0) > (16 * columns, 16 * rows)).any():
            return
        for array, value in ((self.height, round(10 * height)), (self.top, top), (self.side, side)):
            cv2.fillConvexPoly(array, fixed[:4], value, shift=4)
        azimuth = azimuth_of(*along)
        for i, turn in enumerate((90, 180, 270, 0)):  # a triangle for each side
            cv2.fillConvexPoly(self.side_facing, fixed[[i, (i + 1) % 4, 4]], UPRIGHT + facing_code(azimuth + turn), shift=4)

    def house(self, house):
        """Stand a `House`: walls with windows and a door, under a flat, gabled or hipped roof."""
        half_length, half_width = house.length / 2, house.width / 2
        found = self._patch(
            house.east,
            house.south,
            half_length * abs(house.along[0]) + half_width * abs(house.along[1]),
            half_length * abs(house.along[1]) + half_width * abs(house.along[0]),
        )
        if found is None:
            return
        (patch, east, south), (along, across) = found, house.along
        u, v = east * along + south * across, south * along - east * across
        inside = np.flatnonzero((np.abs(u) <= half_length) & (np.abs(v) <= half_width))
        u, v = u.ravel()[inside], v.ravel()[inside]
        run_u, run_v = half_length - np.abs(u), half_width - np.abs(v)  # how far it is to the walls
        on_end = run_u < run_v
        azimuth = azimuth_of(*house.along)
        sides_u = np.where(u > 0, facing_code(azimuth), facing_code(azimuth + 180))
        sides_v = np.where(v > 0, facing_code(azimuth + 90), facing_code(azimuth - 90))
        sides = np.where(on_end, sides_u, sides_v)
        if house.roof == "flat":
            height = house.eaves + 0.5 * (np.minimum(run_u, run_v) < 0.35)  # a parapet
            facing, tiles = 0, 128
        else:
            gabled = house.roof == "gabled"
            height = house.eaves + PITCH * (run_v if gabled else np.minimum(run_u, run_v))
            facing = SLOPE + (sides_v if gabled else sides)
            tiles = 128 + 9 * np.sin(v * (2 * math.pi / 0.75))
        along_wall, to_corner = np.where(on_end, v, u), np.where(on_end, run_v, run_u)
        pattern = ((np.mod(along_wall + 0.3, house.bay) < 0.5 * house.bay) & (to_corner > 0.5)) * (
            SHOP if house.shop else WINDOWS
        )
        if not house.shop:  # the door is in the long wall on the road's side
            pattern[(np.abs(u - house.door) < 0.6) & ~on_end & (v < 0)] = DOOR
        inside = (inside // east.size + patch[0].start) * self.top.shape[1] + inside % east.size + patch[1].start
        self.height.ravel()[inside] = np.minimum(np.round(10 * height), 255)
        self.top.ravel()[inside] = ROOF + house.style
        self.facing.ravel()[inside] = facing
        self.side.ravel()[inside] = WALL + house.style + pattern
        self.side_facing.ravel()[inside] = UPRIGHT + sides
        self.texture.ravel()[inside] = tiles
        if house.chimney:
            east, south = house.east + 0.3 * house.length * house.along[0], house.south + 0.3 * house.length * house.along[1]
            if house.roof == "flat":
                self.box(east, south, 3.0, 2.2, house.along, house.eaves + 1.6, MATERIAL["vent"], MATERIAL["vent"])
            else:
                top = house.eaves + PITCH * half_width + 0.7
                self.box(east, south, 0.8, 0.8, house.along, top, MATERIAL["chimney"], MATERIAL["chimney"])

    def tree(self, east, south, radius, height, species, turn):
        """Stand a tree with a trunk and a crown `radius` metres wide; `turn` (radians) varies the crown's outline."""
        dome, side, trunk = _tree_stamp(round(radius / CELL), round(turn) % 6)
        rows, columns = self.top.shape
        reach = len(dome) // 2
        row, column = round(south / CELL) - self.row - reach, round(east / CELL) - self.column - reach
        above, left = max(0, -row), max(0, -column)
        below, right = min(len(dome), rows - row), min(len(dome), columns - column)
        if above >= below or left >= right:
            return
        cut = slice(above, below), slice(left, right)
        patch = slice(row + above, row + below), slice(column + left, column + right)
        base = int(CROWN_BASE[16 * species])
        crown = cv2.convertScaleAbs(dome[cut], alpha=10 * height - base, beta=base)
        wins = (dome[cut] > 0) & (crown > self.crown[patch])
        np.copyto(self.crown[patch], crown, where=wins)
        np.copyto(self.crown_kind[patch], side[cut] + np.uint8(16 * species), where=wins)
        trunk = trunk[cut]
        self.height[patch][trunk] = base + 4
        self.top[patch][trunk] = self.side[patch][trunk] = MATERIAL["trunk"]

    def finish(self):
        """Give every ground and roof its grain. Call once, after everything has been drawn."""
        size = len(seamless_noise())
        noise = np.roll(seamless_noise(), (-(self.row % size), -(self.column % size)), axis=(0, 1))
        rows, columns = self.top.shape
        for row in range(0, rows, size):
            for column in range(0, columns, size):
                part = slice(row, row + size), slice(column, column + size)
                grain = cv2.LUT(self.top[part], GRAIN)
                cv2.multiply(grain, noise[: grain.shape[0], : grain.shape[1]], dst=grain)
                cv2.add(self.texture[part], grain, dst=self.texture[part], dtype=cv2.CV_8U)

    def _fixed(self, points):
        """Points in metres as OpenCV's 28.4 fixed-point cells."""
        return np.round((np.asarray(points) / CELL - (self.column, self.row)) * 16).astype(np.int32)

    def _patch(self, east, south, reach_east, reach_south):
        """The cells around a point: their slices, and the metres east (1, n) and south (m, 1) from the point."""
        column, row = east / CELL - self.column, south / CELL - self.row
        rows, columns = self.top.shape
        left, right = max(0, math.floor(column - reach_east / CELL)), min(columns, math.ceil(column + reach_east / CELL) + 1)
        above, below = max(0, math.floor(row - reach_south / CELL)), min(rows, math.ceil(row + reach_south / CELL) + 1)
        if left >= right or above >= below:
            return None
        return (
            (slice(above, below), slice(left, right)),
            ((np.arange(left, right) - column) * CELL)[None, :],
            ((np.arange(above, below) - row) * CELL)[:, None],
        )


@functools.lru_cache(maxsize=512)
def _tree_stamp(radius, turn):
    """A tree of `radius` cells, each (n, n): the crown's height from 0 to 1, its side (0 to 8), and where the trunk is."""
    reach = math.ceil(1.2 * radius)
    south, east = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float32)
    angle = np.arctan2(south, east)
    ratio = np.hypot(east, south) / (radius * (1 + 0.1 * np.sin(3 * angle + turn) + 0.06 * np.sin(7 * angle - 2 * turn)))
    eighth = 1 + np.round(angle / math.pi * 4 + 2).astype(np.int32) % 8
    return (
        np.sqrt(np.maximum(1 - ratio * ratio, 0)),
        np.where(ratio < 0.45, 0, eighth).astype(np.uint8),
        np.hypot(east, south) < max(1.3, 0.07 * radius),
    )


def azimuth_of(east, south):
    return math.degrees(math.atan2(east, -south))


def facing_code(azimuth):
    return int(round(azimuth / 22.5)) % 16
