"""What a source of tiles is, and the grid on which imagery is cut into tiles."""

import abc
import dataclasses

import numpy as np

from safa.datasets.image_files import ImageError, read_image
from safa.localization.coordinates import LocalFrame
from safa.runtime.errors import UserError

MOST_TILES = 20_000_000  # of an index: 160 GB of descriptors of the paper's network
SAMPLES = 5  # points along a tile's side that must have imagery


@dataclasses.dataclass(frozen=True)
class Cut:
    """How imagery is cut into overlapping north-up tiles.

    Attributes:
        metres: ground size of a tile.
        spacing: metres between the centres of neighbouring tiles.
        pixels: side of a tile.
        region: west, south, east, north in degrees, in which the centres lie; None: wherever there is imagery.

    Raises:
        UserError: the region is not one.
    """

    metres: float
    spacing: float
    pixels: int
    region: tuple[float, float, float, float] | None = None

    def __post_init__(self):
        west, south, east, north = self.region or (-180, -90, 180, 90)
        if not (-180 <= west < east <= 180 and -90 <= south < north <= 90):
            raise UserError("--region: WEST SOUTH EAST NORTH are degrees, west below east and south below north; correct it")


class TileSource(abc.ABC):
    """North-up square tiles with locations, N of them, in a fixed order.

    Attributes:
        names: N strings.
        locations: (N, 2) float64 longitude and latitude of the centres.
        metres: (N,) float64 ground size of each tile, or None if the source does not say.
        paths: N files, each the one that a row is read from, for messages and to notice changes.
        record: what the tiles are, as JSON keeps it.
        note: what is to be said of them, or None.
    """

    names, locations, metres, paths, record, note = (), None, None, (), {}, None

    def __len__(self):
        return len(self.names)

    @abc.abstractmethod
    def tile(self, row):
        """The tile of a row: (S, S, 3) uint8, BGR. Raises UserError if it cannot be read."""


def read_tile(path, size=None):
    """`read_image`, and an error that says how to go on."""
    try:
        return read_image(path, size)
    except ImageError as error:
        raise UserError(f"{error}; replace the file, and run the same command again") from None


def grid_locations(bounds, cut, covered, where):
    """Centres of tiles on a grid, those whose ground is covered by imagery.

    Args:
        bounds: west, south, east, north of the imagery, degrees.
        cut: Cut.
        covered: function from (n, 2) longitude and latitude to (n,) bool, whether there is imagery.
        where: the source, for messages.

    Returns:
        (N, 2) float64 longitude and latitude, row by row from the north-west.

    Raises:
        UserError: no tile fits, or there are too many.
    """
    region = cut.region or bounds
    west, south = np.maximum(bounds[:2], region[:2]).tolist()
    east, north = np.minimum(bounds[2:], region[2:]).tolist()
    if west >= east or south >= north:
        raise UserError(
            f"{where}: its imagery (west, south, east, north {', '.join(f'{edge:.5f}' for edge in bounds)}) lies outside "
            f"--region {' '.join(f'{edge:g}' for edge in region)}; choose another one"
        )
    frame = LocalFrame((west + east) / 2, (south + north) / 2)
    # The box is bent in metres: the grid covers the corners and the middles of its sides.
    longitudes, latitudes = np.meshgrid([west, (west + east) / 2, east], [south, (south + north) / 2, north])
    corners = frame.metres(np.stack([longitudes.ravel(), latitudes.ravel()], axis=1))
    (left, bottom), (right, top) = corners.min(axis=0), corners.max(axis=0)
    columns, rows = (int((high - low) // cut.spacing) + 1 for low, high in ((left, right), (bottom, top)))
    if columns * rows > MOST_TILES:
        raise UserError(f"{where}: {columns:,} by {rows:,} tiles at --spacing {cut.spacing:g}; choose a larger one")
    # A grid in the middle of the box, so that both edges are treated alike.
    across = (left + right - (columns - 1) * cut.spacing) / 2 + cut.spacing * np.arange(columns)
    down = (bottom + top + (rows - 1) * cut.spacing) / 2 - cut.spacing * np.arange(rows)
    steps = (np.arange(SAMPLES) / (SAMPLES - 1) - 0.5) * cut.metres * (1 - 1e-6)  # a tile may end where the imagery ends
    offsets = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    found = []
    for north_of_centre in down:
        centres = np.stack([across, np.full(columns, north_of_centre)], axis=1)
        locations = frame.locations(centres)
        inside = (locations >= (west, south)).all(axis=1) & (locations <= (east, north)).all(axis=1)
        samples = frame.locations((centres[inside, None] + offsets).reshape(-1, 2))
        found.append(locations[inside][covered(samples).reshape(-1, len(offsets)).all(axis=1)])
    found = np.concatenate(found)
    if not len(found):
        raise UserError(
            f"{where}: no tile of {cut.metres:g} m lies wholly on imagery{' in --region' if cut.region else ''}; "
            "check the region, --tile_metres and --spacing"
        )
    return found
