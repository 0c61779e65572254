"""The plan of a town in VIGOR's form: four cities covered by tiles that overlap by half, panoramas off their centres."""

import collections
import dataclasses
import hashlib
import itertools
import math

import numpy as np

from safa.datasets.vigor import EARTH_METRES
from toy_town.layout import new_blocks
from toy_town.materials import CELL
from toy_town.views import TILE

STEP = round(TILE / 2 / CELL)  # cells between neighbouring tiles
MOST = 2  # panoramas in the central quarter of one tile, as in VIGOR's balanced lists
PUBLISHED_PIXEL = TILE / 640  # metres; VIGOR's offsets count pixels of tiles of 640
CENTRES = {  # latitude and longitude of the corner where a city begins, and the quarter of the town that it takes
    "Chicago": (41.88, -87.63, (0, 0)),
    "NewYork": (40.73, -73.99, (1, 0)),
    "SanFrancisco": (37.78, -122.41, (0, 1)),
    "Seattle": (47.61, -122.33, (1, 1)),
}
FOLDERS = tuple(f"{city}/{kind}" for city in CENTRES for kind in ("satellite", "panorama"))


@dataclasses.dataclass(frozen=True)
class City:
    """A city's files and lists.

    Attributes:
        name: of its folder.
        tiles, panoramas: {file name: (column, row) of the lattice that it shows in the middle}.
        lists: {file name: lines}.
    """

    name: str
    tiles: dict
    panoramas: dict
    lists: dict


def plan_city(town, name, train, test):
    """The City of that name with so many panoramas for training and for tests, which lie among each other.

    Args:
        town: `layout.Town`.
        name: one of CENTRES.
        train, test: numbers of panoramas.
    """
    latitude, longitude, quarter = CENTRES[name]
    rng = np.random.default_rng((town.seed, 12, *quarter))
    cells = _places(town, quarter, train + test)
    cells = [cells[row] for row in rng.permutation(len(cells))]
    degrees = math.degrees(CELL / EARTH_METRES)  # of a cell

    def position(column, row):
        return latitude - degrees * row, longitude + degrees * column / math.cos(math.radians(latitude))

    nodes = [node for cell in cells for node in _nodes(cell)]
    low, high = np.min(nodes, axis=0), np.max(nodes, axis=0)
    tiles, panoramas = {}, {}
    for i, j in itertools.product(range(low[0], high[0] + 1), range(low[1], high[1] + 1)):
        tiles[(i, j)] = "satellite_{:.10f}_{:.10f}.png".format(*position(STEP * i, STEP * j))
    lines = []
    for number, cell in enumerate(cells):
        digest = hashlib.sha256(f"{town.seed}/{name}/{number}".encode()).hexdigest()[:22]
        panorama = "{},{:.6f},{:.6f},.jpg".format(digest, *position(*cell))
        panoramas[panorama] = cell
        label = [panorama]
        for i, j in _nodes(cell):
            south, west = cell[1] - STEP * j, STEP * i - cell[0]
            label += [tiles[(i, j)], *(f"{cells_off * CELL / PUBLISHED_PIXEL:.6f}" for cells_off in (south, west))]
        lines.append(" ".join(label))
    lists = {
        "satellite_list.txt": list(tiles.values()),
        "pano_label_balanced.txt": lines,
        "same_area_balanced_train.txt": lines[:train],
        "same_area_balanced_test.txt": lines[train:],
    }
    return City(name, {file: (STEP * i, STEP * j) for (i, j), file in tiles.items()}, panoramas, lists)


def _places(town, quarter, count):
    """Camera positions in a quarter of the town, at most MOST of them with the same positive tile: (column, row) cells."""
    found, of_tile, side = [], collections.Counter(), 0
    while len(found) < count:
        side += 1
        for a, b in new_blocks(side):
            block = [-4 - at if other else at for at, other in zip((a, b), quarter, strict=True)]
            for place in town.places(*block, False):
                positive = _nodes(place)[0]
                if of_tile[positive] < MOST:
                    of_tile[positive] += 1
                    found.append(place)
    return found[:count]


def _nodes(cell):
    """The four tiles that show a place, columns and rows of the grid: first the one whose central quarter it lies in."""
    low = [at // STEP for at in cell]
    nodes = [(low[0] + right, low[1] + below) for right in (0, 1) for below in (0, 1)]
    return sorted(nodes, key=lambda node: max(abs(STEP * each - at) for each, at in zip(node, cell, strict=True)))
