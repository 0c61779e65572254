"""Where streets, houses and trees are: everything follows from the seed and the number of a block, so any piece can be
drawn on its own."""

import bisect
import dataclasses
import functools
import math

import cv2
import numpy as np

from toy_town.materials import CAR, CARS, CELL, CROWN_BASE, MATERIAL, STYLES, TREES
from toy_town.scene import Scene

MOST_KEPT = 2000  # blocks, roads and crossroads that stay in memory, as neighbouring districts share some
BLOCK = 84.0  # metres between crossroads, before they are shifted


@dataclasses.dataclass(frozen=True)
class House:
    """A building; metres, `along` the unit vector (east, south) of its length, the road on the side of negative v."""

    east: float
    south: float
    length: float
    width: float
    along: tuple
    eaves: float
    roof: str
    style: int
    bay: float
    door: float
    shop: bool
    chimney: bool


@dataclasses.dataclass(frozen=True)
class Road:
    """A way between two crossroads: (n, 2) metres east and south, and how wide."""

    kind: str
    line: np.ndarray
    width: float
    pavement: float

    def __post_init__(self):
        steps = np.diff(self.line, axis=0)
        lengths = np.hypot(steps[:, 0], steps[:, 1])
        object.__setattr__(self, "_tangents", steps / lengths[:, None])
        object.__setattr__(self, "_starts", np.concatenate([[0], np.cumsum(lengths)]).tolist())

    def at(self, distance):
        """Point and unit tangent at `distance` metres along the road."""
        part = min(max(bisect.bisect_right(self._starts, distance) - 1, 0), len(self._tangents) - 1)
        tangent = self._tangents[part]
        return self.line[part] + tangent * (distance - self._starts[part]), tangent

    @property
    def length(self):
        return self._starts[-1]


@dataclasses.dataclass
class Block:
    """What stands between four roads: painted ground, then solid things."""

    outline: np.ndarray
    paint: list = dataclasses.field(default_factory=list)  # (points, width in metres or None for a polygon, material)
    houses: list = dataclasses.field(default_factory=list)
    boxes: list = dataclasses.field(default_factory=list)  # arguments of Scene.box
    trees: list = dataclasses.field(default_factory=list)  # arguments of Scene.tree


ROADS = {"main": (9.0, 2.6), "street": (7.0, 1.8), "lane": (5.2, 0.0), "path": (2.2, 0.0)}  # width, pavement; metres


class Town:
    """A town without end, laid out block by block from a seed."""

    def __init__(self, seed):
        self.seed = seed
        self._phases = np.random.default_rng((seed, 1)).uniform(0, 2 * math.pi, 4)
        kept = functools.lru_cache(MOST_KEPT)  # of this town; cached methods would keep every town
        self.node, self.road, self.outline, self.block = map(kept, (self.node, self.road, self.outline, self.block))

    def _rng(self, kind, a, b):
        return np.random.default_rng((self.seed, kind, a + (1 << 20), b + (1 << 20)))

    def node(self, a, b):
        """Crossroads (a, b): metres east and south."""
        x, y, p = BLOCK * a, BLOCK * b, self._phases
        east = x + 30 * math.sin(y / 95 + p[0]) + 14 * math.sin(x / 120 + p[1])  # a slow bend: not all streets run so
        south = y + 30 * math.sin(x / 95 + p[2]) + 14 * math.sin(y / 120 + p[3])
        return np.array([east, south]) + self._rng(2, a, b).uniform(-0.19, 0.19, 2) * BLOCK

    def road(self, a, b, south):
        """The way from crossroads (a, b) to the next one to the east, or to the south."""
        rng = self._rng(4 if south else 3, a, b)
        start, end = self.node(a, b), self.node(*((a, b + 1) if south else (a + 1, b)))
        across = np.array([start[1] - end[1], end[0] - start[0]]) / np.hypot(*(end - start))
        middle = (start + end) / 2 + across * rng.uniform(-9, 9)
        t = np.linspace(0, 1, 13)[:, None]
        line = (1 - t) ** 2 * start + 2 * t * (1 - t) * middle + t**2 * end
        is_main = (a if south else b) % 4 == 0  # a thoroughfare
        kind = "main" if is_main else str(rng.choice(["street", "lane", "path"], p=[0.6, 0.24, 0.16]))
        return Road(kind, line, *ROADS[kind])

    def outline(self, a, b):
        """The polygon of block (a, b), clockwise: (n, 2) metres east and south."""
        return np.concatenate([side.line[:-1] for side in _sides(self, a, b)])

    def block(self, a, b):
        """The block whose north-western crossroads is (a, b)."""
        return _laid_out(self, a, b)

    def places(self, a, b, close):
        """Camera positions on the two roads that belong to block (a, b).

        Args:
            close: also put cameras a few metres from one another, as CVACT has them.

        Returns:
            List of (column, row) lattice cells.
        """
        places = []
        for south in (False, True):
            road, rng = self.road(a, b, south), self._rng(6 if south else 5, a, b)
            if road.kind == "path":
                continue
            distance = rng.uniform(8, 20)
            while distance < road.length - 5:
                point, tangent = road.at(distance)
                aside = rng.uniform(-0.7, 0.7)
                column, row = np.round((point + aside * np.array([-tangent[1], tangent[0]])) / CELL).astype(int).tolist()
                places.append((column, row))
                if close and rng.random() < 0.45:
                    distance += rng.uniform(2.5, 4.0) if rng.random() < 0.35 else rng.uniform(8, 15)
                else:
                    distance += rng.uniform(22, 34)
        return places

    def scene_around(self, cells, reach):
        """The `scene` that reaches `reach` cells beyond (n, 2) lattice cells."""
        low, high = cells.min(axis=0) - reach, cells.max(axis=0) + reach + 1
        return self.scene(*low.tolist(), *(high - low).tolist())

    def scene(self, column, row, columns, rows):
        """Draw the rectangle of the town that begins at the lattice's cell (column, row).

        Returns:
            A finished `Scene`, `rows` by `columns` cells.
        """
        scene = Scene(column, row, columns, rows)
        low, high = np.array([column, row]) * CELL, np.array([column + columns, row + rows]) * CELL
        first, last = np.floor((low - 70) / BLOCK).astype(int) - 1, np.ceil((high + 70) / BLOCK).astype(int) + 1
        blocks, roads = [], []
        for b in range(first[1], last[1]):
            for a in range(first[0], last[0]):
                for south in (False, True):
                    line = self.road(a, b, south).line
                    if (line.max(0) + 10 > low).all() and (line.min(0) - 10 < high).all():
                        roads.append(self.road(a, b, south))
                outline = self.outline(a, b)
                if (outline.max(0) > low).all() and (outline.min(0) < high).all():
                    blocks.append(self.block(a, b))
        for block in blocks:
            for points, width, material in block.paint:
                if width is None:
                    scene.fill(points, material)
                else:
                    scene.stroke(points, width, material)
        _draw_roads(scene, roads)
        for block in blocks:
            for arguments in block.boxes:
                scene.box(*arguments)
            for house in block.houses:
                scene.house(house)
            for arguments in block.trees:
                scene.tree(*arguments)
        scene.finish()
        return scene


def new_blocks(side):
    """The blocks by which a square of `side` blocks is larger than the one before."""
    last = side - 1
    return [(last, b) for b in range(side)] + [(a, last) for a in range(last)]


def _draw_roads(scene, roads):
    for road in roads:
        if road.pavement:
            scene.stroke(road.line, road.width + 2 * road.pavement, "pavement")
    for road in roads:
        if road.pavement:
            scene.stroke(road.line, road.width + 0.5, "kerb")
        elif road.kind == "path":
            scene.stroke(road.line, road.width, "gravel")
    for road in sorted(roads, key=lambda road: road.width):
        if road.kind != "path":
            scene.stroke(road.line, road.width, "asphalt" if road.pavement else "asphalt, old")
    for road in roads:
        if not road.pavement:
            continue
        step, dash = (6.0, 3.0) if road.kind == "main" else (9.0, 2.0)
        for distance in np.arange(9.0, road.length - 9.0, step):
            scene.stroke([road.at(distance)[0], road.at(distance + dash)[0]], 0.16, "marking")
        if road.kind == "main":
            for end in (7.0, road.length - 7.0):  # zebra crossings
                point, tangent = road.at(end)
                across = np.array([-tangent[1], tangent[0]])
                for aside in np.arange(-3.6, 3.7, 1.2):
                    middle = point + aside * across
                    scene.stroke([middle - 1.3 * tangent, middle + 1.3 * tangent], 0.5, "marking")


def _sides(town, a, b):
    """The four roads around a block, walked clockwise as seen from above: the block is on the right."""
    there, back = [town.road(a, b, False), town.road(a + 1, b, True)], [town.road(a, b + 1, False), town.road(a, b, True)]
    return there + [dataclasses.replace(road, line=road.line[::-1]) for road in back]


def _laid_out(town, a, b):
    """Fill a block with what its kind demands."""
    rng = town._rng(8, a, b)
    sides = _sides(town, a, b)
    block = Block(town.outline(a, b))
    site = _Site(block, sides, rng)
    kind = rng.choice(["homes", "centre", "park", "field", "works"], p=[0.56, 0.15, 0.11, 0.08, 0.10])
    {"homes": _homes, "centre": _centre, "park": _park, "field": _field, "works": _works}[str(kind)](site)
    _street_furniture(site, kind in ("homes", "centre", "works"))
    return block


class _Site:
    """A block being laid out: keeps things off the roads and off one another."""

    def __init__(self, block, sides, rng):
        self.block, self.sides, self.rng = block, sides, rng
        self.ways = np.concatenate([side.line for side in sides] + [(side.line[1:] + side.line[:-1]) / 2 for side in sides])
        margins = [side.width / 2 + side.pavement for side in sides]
        self.margins = np.repeat(margins * 2, [len(side.line) - middles for middles in (0, 1) for side in sides])
        self.outline = block.outline.astype(np.float32)
        self.middle = block.outline.mean(axis=0)
        self.taken = []  # (east, south, radius)

    def clearance(self, point):
        """Metres from a point, or from the nearest of several, to the nearest pavement."""
        apart = self.ways - np.asarray(point)[..., None, :]
        return float((np.hypot(apart[..., 0], apart[..., 1]) - self.margins).min())

    def inside(self, point):
        return cv2.pointPolygonTest(self.outline, (float(point[0]), float(point[1])), False) > 0

    def free(self, point, radius):
        return all((point[0] - e) ** 2 + (point[1] - s) ** 2 > (radius + r) ** 2 for e, s, r in self.taken)

    def anywhere(self, clearance):
        """A random point of the block that is `clearance` metres from the pavement, or None."""
        low, high = self.block.outline.min(axis=0), self.block.outline.max(axis=0)
        for _ in range(12):
            point = self.rng.uniform(low, high)
            if self.inside(point) and self.clearance(point) > clearance:
                return point
        return None

    def build(self, point, length, width, along, eaves, roof, style, shop=False, setback=1.5):
        """Stand a building if its site is free; says whether it was."""
        along = np.asarray(along)
        across = np.array([-along[1], along[0]])
        corners = [
            point + i * length / 2 * along + j * width / 2 * across for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)
        ]
        parts = max(1, round(length / width))  # a long building is a row of discs
        discs = [point + ((i + 0.5) / parts - 0.5) * length * along for i in range(parts)]
        radius = 0.5 * math.hypot(length / parts, width)
        if not (
            all(self.free(disc, 0.86 * radius) for disc in discs)
            and all(self.inside(corner) for corner in corners)
            and self.clearance(corners) > setback
        ):
            return False
        self.taken += [(*disc.tolist(), 0.86 * radius) for disc in discs]
        rng = self.rng
        bay, door, chimney = rng.uniform(2.2, 3.4), rng.uniform(-0.3, 0.3) * length, rng.random() < 0.6
        place = *map(float, point), length, width, tuple(map(float, along))
        self.block.houses.append(House(*place, eaves, roof, style, float(bay), float(door), shop, bool(chimney)))
        return True

    def plant(self, point, low, high, species=None):
        """Plant a tree unless a wall is in the way."""
        rng = self.rng
        radius = float(rng.uniform(low, high))
        if not self.free(point, 0.7 * radius):
            return
        species = int(rng.integers(len(TREES))) if species is None else species
        height = min(CROWN_BASE[16 * species] / 10 + radius * rng.uniform(1.3, 2.3), 14.0)
        self.block.trees.append((float(point[0]), float(point[1]), radius, float(height), species, float(rng.uniform(0, 6.28))))

    def scatter(self, counts, clearance, low, high, species=None):
        """Plant some trees, between two numbers of them, `clearance` metres from the pavement, of any species or of these."""
        for _ in range(int(self.rng.integers(*counts))):
            point = self.anywhere(clearance)
            if point is not None:
                self.plant(point, low, high, None if species is None else int(self.rng.choice(species)))

    def hedge(self, start, end, height):
        """Plant a hedge between two points."""
        length = float(np.hypot(*(end - start)))
        if length < 1.5:
            return
        middle, along = (start + end) / 2, tuple(map(float, (end - start) / length))
        self.block.boxes.append((*map(float, middle), length, 0.8, along, height, MATERIAL["hedge"], MATERIAL["hedge"]))

    def car(self, point, along):
        """Park a car."""
        paint = CAR + int(self.rng.integers(len(CARS)))
        place, along = (tuple(map(float, each)) for each in (point, along))
        self.block.boxes.append((*place, 4.4, 1.8, along, 0.95, paint, paint))
        self.block.boxes.append((*place, 2.3, 1.6, along, 1.5, paint, MATERIAL["glass"]))


def _frontage(side, distance, depth):
    """Point `depth` metres inside the pavement's edge at a distance along a side, with the tangent and inward normal."""
    point, tangent = side.at(distance)
    inward = np.array([-tangent[1], tangent[0]])  # rows grow to the south, so this is a turn to the right
    return point + inward * (side.width / 2 + side.pavement + depth), tangent, inward


def _homes(site):
    rng, block = site.rng, site.block
    block.paint.append((block.outline, None, str(rng.choice(["lawn", "lawn, mown", "lawn, dry"], p=[0.5, 0.35, 0.15]))))
    fashion = rng.integers(len(STYLES), size=3)  # neighbours build alike
    setback = rng.uniform(3.0, 7.5)
    lot = rng.uniform(13, 19)
    for side in site.sides:
        if side.kind == "path":
            continue
        distance = rng.uniform(10, 15)
        while distance < side.length - 9:
            length, width = float(rng.uniform(8.5, min(13, lot - 2.5))), float(rng.uniform(7, 9.5))
            gable_to_road = rng.random() < 0.25
            depth = setback + rng.uniform(-1, 1.5) + (length if gable_to_road else width) / 2
            point, tangent, inward = _frontage(side, distance, depth)
            style = int(rng.choice(fashion)) if rng.random() < 0.6 else int(rng.integers(len(STYLES)))
            storeys = int(rng.choice([1, 2, 3], p=[0.45, 0.45, 0.10]))
            roof = str(rng.choice(["gabled", "hipped", "flat"], p=[0.5, 0.32, 0.18]))
            if rng.random() < 0.9 and site.build(
                point, length, width, inward if gable_to_road else tangent, 2.8 * storeys + 0.3, roof, style
            ):
                _garden(site, side, distance, lot, depth + width / 2)
            distance += lot * rng.uniform(0.9, 1.25)
    site.scatter((6, 16), 3.0, 1.3, 3.2)


def _garden(site, side, distance, lot, depth):
    rng, block = site.rng, site.block
    if rng.random() < 0.75:
        start, _, inward = _frontage(side, distance + lot * 0.3, -0.2)
        drive = [start, start + inward * rng.uniform(6, 11)]
        block.paint.append((drive, rng.uniform(2.4, 3.4), str(rng.choice(["driveway", "gravel", "asphalt, old"]))))
        if rng.random() < 0.4:
            site.car(start + inward * 3.4, inward)
    if rng.random() < 0.35:
        left, _, _ = _frontage(side, max(distance - lot * 0.45, 8), 0.7)
        right, _, _ = _frontage(side, distance + lot * 0.12, 0.7)
        site.hedge(left, right, float(rng.uniform(0.7, 1.3)))
    if rng.random() < 0.4:
        front, _, inward = _frontage(side, distance - lot * 0.5, 2.5)
        site.hedge(front, front + inward * rng.uniform(8, 16), float(rng.uniform(0.9, 1.7)))
    if rng.random() < 0.22:
        point, tangent, inward = _frontage(side, distance + rng.uniform(-3, 3), depth + rng.uniform(4, 6))
        if site.inside(point) and site.free(point, 4.0) and site.clearance(point) > 6:
            corner = np.array([tangent * 3.6, inward * 1.9])
            ring = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
            block.paint.append((point + ring * 1.4 @ corner, None, "plaza"))
            block.paint.append((point + ring @ corner, None, "pool"))
            site.taken.append((float(point[0]), float(point[1]), 3.5))


def _centre(site):
    rng, block = site.rng, site.block
    block.paint.append((block.outline, None, str(rng.choice(["plaza", "pavement", "lawn, mown"]))))
    for side in site.sides:
        distance = rng.uniform(13, 18)
        while distance < side.length - 9:
            length, width = float(rng.uniform(13, 27)), float(rng.uniform(10, 13))
            point, tangent, _ = _frontage(side, distance + length / 2 - 7, rng.uniform(2.5, 5) + width / 2)
            eaves = 3.0 * int(rng.integers(2, 6)) + 0.6
            roof = str(rng.choice(["flat", "hipped", "gabled"], p=[0.6, 0.25, 0.15]))
            style, shop = int(rng.integers(len(STYLES))), bool(rng.random() < 0.5)
            site.build(point, length, width, tangent, eaves, roof, style, shop)
            distance += length + rng.uniform(1, 9)
    site.scatter((3, 9), 4.0, 1.5, 2.6)


def _park(site):
    rng, block = site.rng, site.block
    block.paint.append((block.outline, None, str(rng.choice(["lawn", "lawn, mown", "meadow"]))))
    corners = rng.permutation(4)
    for i in corners[:3]:
        target = site.middle + rng.uniform(-10, 10, 2)
        start = site.sides[i].at(site.sides[i].length * rng.uniform(0.3, 0.7))[0]
        block.paint.append(([start, (start + target) / 2 + rng.uniform(-6, 6, 2), target, site.middle], 2.2, "gravel"))
    if rng.random() < 0.65:
        centre, size = site.middle + rng.uniform(-12, 12, 2), rng.uniform(9, 20)
        angle = np.linspace(0, 2 * math.pi, 40, endpoint=False)
        p = rng.uniform(0, 6.28, 2)
        shape = size * (1 + 0.2 * np.sin(2 * angle + p[0]) + 0.12 * np.sin(3 * angle + p[1]))
        ring = np.stack([np.cos(angle), np.sin(angle)], 1) * shape[:, None]
        block.paint.append((centre + 1.08 * ring, None, "shore"))
        block.paint.append((centre + ring, None, "water"))
        site.taken.append((float(centre[0]), float(centre[1]), 1.15 * size))
    elif rng.random() < 0.6:
        side = site.sides[0]
        along = (side.line[-1] - side.line[0]) / np.hypot(*(side.line[-1] - side.line[0]))
        across = np.array([-along[1], along[0]])
        court = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1], [-1, -1]]) @ np.array([along * 13, across * 7])
        block.paint.append((site.middle + court * 1.15, None, "court"))
        block.paint.append((site.middle + court, 0.3, "marking"))
        block.paint.append((site.middle + np.array([across * 7, -across * 7]), 0.3, "marking"))
        site.taken.append((float(site.middle[0]), float(site.middle[1]), 13.0))
    grove = rng.integers(len(TREES), size=3)
    site.scatter((14, 34), 1.5, 1.8, 4.2, grove)


def _field(site):
    rng, block = site.rng, site.block
    plain, furrow = ("crop", "crop, furrow") if rng.random() < 0.6 else ("soil", "soil, furrow")
    block.paint.append((block.outline, None, plain))
    turn = rng.uniform(0, math.pi)
    along, across = np.array([math.cos(turn), math.sin(turn)]), np.array([-math.sin(turn), math.cos(turn)])
    reach = max(np.hypot(*(block.outline - site.middle).T))
    for aside in np.arange(-reach, reach, rng.uniform(1.6, 3.2)):
        steps = site.middle + aside * across + np.linspace(-reach, reach, 40)[:, None] * along
        within = [step for step in steps if site.inside(step)]
        if len(within) > 1:
            block.paint.append(([within[0], within[-1]], 0.7, furrow))
    for side in site.sides:
        if rng.random() < 0.4:
            for distance in np.arange(10, side.length - 16, 6):
                if rng.random() < 0.7:
                    site.hedge(_frontage(side, distance, 1.2)[0], _frontage(side, distance + 6, 1.2)[0], 1.3)
        elif rng.random() < 0.5:
            for distance in np.arange(9, side.length - 8, rng.uniform(7, 12)):
                site.plant(_frontage(side, distance, rng.uniform(2.5, 4.5))[0], 1.5, 3.2)
    if rng.random() < 0.5:
        point = site.anywhere(10.0)
        if point is not None:
            site.build(point, 17.0, 10.0, along, 4.2, "gabled", int(rng.integers(len(STYLES))), setback=3)


def _works(site):
    rng, block = site.rng, site.block
    block.paint.append((block.outline, None, str(rng.choice(["asphalt, old", "driveway", "gravel"]))))
    for side in rng.permutation(4)[:3]:
        side = site.sides[side]
        length, width = float(rng.uniform(20, 32)), float(rng.uniform(13, 19))
        point, tangent, _ = _frontage(side, side.length * rng.uniform(0.4, 0.6), rng.uniform(5, 9) + width / 2)
        eaves, roof = float(rng.uniform(4.5, 8)), str(rng.choice(["flat", "gabled"], p=[0.7, 0.3]))
        site.build(point, length, width, tangent, eaves, roof, int(rng.integers(len(STYLES))), setback=2)
    for side in site.sides:  # parking bays
        if rng.random() < 0.6:
            for distance in np.arange(12, side.length - 11, 2.7):
                point, _, inward = _frontage(side, distance, 3.6)
                if site.inside(point) and site.free(point, 2.6):
                    block.paint.append(([point - 2.4 * inward, point + 2.4 * inward], 0.14, "marking"))
                    beside, _, _ = _frontage(side, distance + 1.35, 3.6)
                    if rng.random() < 0.45 and site.free(beside, 2.6):
                        site.car(beside, inward)


def _street_furniture(site, busy):
    """Trees along the road and cars at the kerb; the block's own side of each road only."""
    rng = site.rng
    for side in site.sides:
        if side.kind == "path":
            continue
        if rng.random() < (0.55 if side.kind == "main" else 0.3):
            species, gap = int(rng.integers(len(TREES))), rng.uniform(8, 14)
            for distance in np.arange(rng.uniform(9, 13), side.length - 9, gap):
                site.plant(_frontage(side, distance, 0.9)[0], 1.3, 2.3, species)
        if busy and side.kind != "lane":
            for distance in np.arange(14, side.length - 13, 6.2):
                if rng.random() < 0.2:
                    point, tangent, _ = _frontage(side, distance, -side.pavement - 1.05)
                    site.car(point, tangent)
