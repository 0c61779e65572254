"""What a source of tiles is, and the grid on which imagery is cut into tiles."""

import abc
import dataclasses
import itertools
from typing import Literal

import numpy as np

from safa.datasets.image_files import ImageError, read_image
from safa.localization.coordinates import LocalFrame, unwrapped
from safa.runtime.errors import UserError

MOST_TILES = 20_000_000  # of an index: 160 GB of descriptors of the paper's network
SAMPLES = 5  # points along a tile's side that must have imagery


@dataclasses.dataclass(frozen=True)
class Cut:
    """How imagery is cut into overlapping north-up tiles.

    The region is west, south, east, north in degrees; a UserError says that it is not one.
    """

    metres: float  # ground size of a tile
    spacing: float  # metres between the centres of neighbouring tiles
    pixels: int  # side of a tile
    region: tuple[float, float, float, float] | None = None  # in which the centres lie; None: wherever there is imagery
    grid: tuple[float, float] | None = None  # longitude, latitude of a centre to count from; None: the imagery's middle

    def __post_init__(self):
        west, south, east, north = self.region or (-180, -90, 180, 90)
        if not (-180 <= west < east <= min(west + 360, 360) and -90 <= south < north <= 90):
            raise UserError(
                "--region: WEST SOUTH EAST NORTH are degrees, west below east (179 and 181, not -179, across the 180th "
                "meridian) and south below north; correct it"
            )


@dataclasses.dataclass(frozen=True)
class SourceRecord:
    """What a source of tiles is; fields that its kind does not have are None."""

    kind: Literal["list", "rasters", "map tiles"]
    cut: Cut | None = None  # of imagery, without a region
    zoom: int | None = None
    tms: bool | None = None  # rows of map tiles are counted from the south
    epsg: int | None = None  # reference system of rasters that do not name theirs
    paths: tuple[str, ...] = ()  # absolute ones, of what was named as --tiles


class TileSource(abc.ABC):
    """North-up square tiles with locations, N of them, in a fixed order.

    Attributes:
        names: N strings.
        locations: (N, 2) float64 longitude and latitude of the centres.
        metres: (N,) float64 ground size of each tile, or None if the source does not say.
        paths: N files, each the one that a row is read from, for messages and to notice changes.
        record: SourceRecord.
        notes: lines to be said of them.
    """

    names, locations, metres, paths, record, notes = (), None, None, (), SourceRecord("list"), ()

    def __len__(self):
        return len(self.names)

    @abc.abstractmethod
    def tile(self, row):
        """The tile of a row: (S, S, 3) uint8, BGR. Raises UserError if it cannot be read."""

    def files(self, row):
        """The files that a row's tile is made of; a change of one of them may change the tile."""
        return [self.paths[row]]

    @property
    def extent(self):
        """Number and extent of the tiles' centres, as a line."""
        frame = LocalFrame.around(self.locations)
        wide, high = np.ptp(frame.metres(self.locations), axis=0) / 1000
        places = unwrapped(self.locations, frame.centre[0])
        (west, south), (east, north) = places.min(axis=0), places.max(axis=0)
        edges = f"west {west:.5f}, south {south:.5f}, east {east:.5f}, north {north:.5f}"
        return f"{len(self):,} tiles: {edges}, a box of {wide * high:,.2f} km²"


class ChosenTiles(TileSource):
    """Some rows of a TileSource."""

    def __init__(self, source: TileSource, rows):
        self._source, self._rows, self.record, self.locations = source, rows, source.record, source.locations[rows]
        self.names, self.paths = ([values[row] for row in rows] for values in (source.names, source.paths))

    def tile(self, row):
        return self._source.tile(self._rows[row])


def read_tile(path, size=None, read=read_image):
    """What `read_image`, or a function like it, reads; its error says how to go on."""
    try:
        return read(path, size)
    except ImageError as error:
        raise UserError(f"{error}; replace the file, and run the same command again") from None


def grid_locations(bounds, cut, covered, where):
    """Centres of tiles on a grid, those whose ground is covered by imagery; a UserError if there are none, or too many.

    Args:
        bounds: west, south, east, north of the imagery, degrees.
        covered: function from (n, 2) longitude and latitude to (n,) bool, whether there is imagery.
        where: the source, for messages.

    Returns:
        (N, 2) float64 longitude and latitude, row by row from the north-west, and the Cut on its grid, without a region.
    """
    region = np.array(cut.region or bounds)
    region[[0, 2]] += 360 * round((bounds[0] + bounds[2] - region[0] - region[2]) / 720)
    if region[2] - region[0] == 360:  # all longitudes, also those of imagery on both sides of where it ends
        region[[0, 2]] = bounds[::2]
    west, south = np.maximum(bounds[:2], region[:2]).tolist()
    east, north = np.minimum(bounds[2:], region[2:]).tolist()
    if west >= east or south >= north:
        raise UserError(
            f"{where}: its imagery (west, south, east, north {', '.join(f'{edge:.5f}' for edge in bounds)}) lies outside "
            f"--region {' '.join(f'{edge:g}' for edge in region)}; choose another one"
        )
    middle, spacing = (west + east) / 2, cut.spacing
    # The box is bent in metres: the grid covers the corners and the middles of its sides.
    corners, grid = list(itertools.product([west, middle, east], [south, (south + north) / 2, north])), cut.grid
    if grid is None:  # in the middle of the box, so that both edges are treated alike
        frame = LocalFrame(middle, (south + north) / 2)
        low, high = np.percentile(frame.metres(corners), (0, 100), axis=0)
        grid = tuple(frame.locations((low + high) / 2 - (high - low) // spacing % 2 * spacing / 2)[0].tolist())
    frame = LocalFrame(*grid)
    low, high = np.percentile(frame.metres(corners), (0, 100), axis=0)
    # Whole numbers of spacings: imagery that grows has the same bytes where it was.
    left, bottom, right, top = map(int, (*np.ceil(low / spacing), *np.floor(high / spacing)))
    columns, rows = right - left + 1, top - bottom + 1
    if columns * rows > MOST_TILES:
        raise UserError(f"{where}: {columns:,} by {rows:,} tiles at --spacing {spacing:g}; choose a larger one")
    across, down = spacing * np.arange(left, right + 1), spacing * np.arange(top, bottom - 1, -1)
    steps = (np.arange(SAMPLES) / (SAMPLES - 1) - 0.5) * cut.metres * (1 - 1e-6)  # a tile may end where the imagery ends
    offsets, found = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2), []
    for north_of_centre in down:
        centres = np.stack([across, np.full(columns, north_of_centre)], axis=1)
        locations = frame.locations(centres)
        points = unwrapped(locations, middle)
        inside = ((points >= (west, south)) & (points <= (east, north))).all(axis=1)
        inside[inside] = covered(locations[inside])
        samples = frame.locations((centres[inside, None] + offsets).reshape(-1, 2))
        found.append(locations[inside][covered(samples).reshape(-1, len(offsets)).all(axis=1)])
    found = np.concatenate([np.empty((0, 2)), *found])
    if not len(found):
        raise UserError(
            f"{where}: no tile of {cut.metres:g} m lies wholly on imagery{' in --region' if cut.region else ''}; "
            "check the region, --tile_metres and --spacing"
        )
    return found, dataclasses.replace(cut, region=None, grid=grid)
