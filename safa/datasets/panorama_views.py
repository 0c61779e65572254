"""Panoramas of unknown heading and limited field of view, as later papers test (DSM, Shi et al., CVPR 2020)."""

import dataclasses
import typing

import numpy as np

from safa.runtime.command_line import Checked, at_least, setting
from safa.runtime.errors import UserError
from safa.settings import FULL_CIRCLE

TEST_SEED = 2019  # DSM's, so that everyone tests on the same queries


@dataclasses.dataclass(frozen=True)
class PanoramaView(Checked):
    """How much of a panorama a query shows, and what is known of its heading."""

    fov: int = setting(
        FULL_CIRCLE,
        "field of view of the queries: the first columns stay, the others become the mean colour (later papers: 180, 90, 70)",
        at_least(int, 1, FULL_CIRCLE),
        metavar="DEGREES",
        paper="360",
    )
    unknown_heading: bool = setting(False, "turn each query by a random angle, DSM's (CVPR 2020), which later papers test on")
    search_heading: int = setting(
        1,
        "number of turns, evenly spread over the circle, at which each query is matched; the best counts. 1: as it is",
        at_least(int, 1, 360),
        metavar="N",
        paper="1",
    )

    @property
    def name(self):
        """For files: "fov_90_unknown_heading_search_16", or "" for the paper's."""
        parts = [f"fov_{self.fov}"] * (self.fov != FULL_CIRCLE)
        parts += ["unknown_heading"] * self.unknown_heading + [f"search_{self.search_heading}"] * (self.search_heading > 1)
        return "_".join(parts)

    def turns(self, width):
        """(T,) int64 columns by which each query, as it is read, is turned back to be matched; the first is 0."""
        return np.round(np.arange(self.search_heading) * width / self.search_heading).astype(np.int64)

    def panoramas(self, count, width, fill, seed=TEST_SEED):
        """The TurnedPanoramas of some queries; None: as they are.

        Args:
            count: Q, number of queries.
            width: of the panoramas at the network's input.
            fill: (3,) BGR of the columns that are not seen: the mean that the network takes off.
            seed: of the random turns: a test's, or seed and epoch of a training.
        """
        if (self.fov, self.unknown_heading, self.search_heading) == (FULL_CIRCLE, False, 1):
            return None
        shifts = np.zeros(count, np.int64)
        if self.unknown_heading:  # DSM: int(u * width * 360 / 360), u uniform in [0, 1), one draw each
            shifts = (np.random.RandomState(seed).rand(count) * width).astype(np.int64)
        return TurnedPanoramas(shifts, width, self.fov, fill)


@dataclasses.dataclass(frozen=True)
class TurnedPanoramas:
    """Turns and cuts the panoramas of rows.

    Column j of a query is column (j - shift) mod W of the panorama. Its first fov/360 W columns are kept; the others have the
    mean colour, which is 0 in the network.
    """

    shifts: np.ndarray  # (N,) int64 columns
    width: int  # W that they are columns of; panoramas of another width are turned by as many degrees
    fov: int  # degrees that are kept
    fill: typing.Sequence[float]  # (3,) the mean colour, BGR

    @property
    def dtype(self):
        """Of the queries: float32 where columns are filled, as the mean colour has fractions."""
        return np.uint8 if self.fov == FULL_CIRCLE else np.float32

    def __call__(self, row, image):
        """The query of a row from its panorama, (H, W, 3) uint8: the same shape, `dtype`."""
        shift = round(self.shifts[row] * image.shape[1] / self.width)
        query = np.roll(image, shift, axis=1).astype(self.dtype, copy=False)
        if self.fov < FULL_CIRCLE:
            query[:, kept_columns(self.fov, image.shape[1]) :] = self.fill
        return query

    def degrees_off(self, turns):
        """(N, T) float64: by how many degrees turning each query back by each of T numbers of columns misses its shift."""
        return (turns - self.shifts[:, None]) * (FULL_CIRCLE / self.width)


def check_turns(dataset_class, settings, names):
    """Refuse the settings of these names, which turn or cut panoramas, where a class of datasets has none."""
    for name in names:
        if not dataset_class.has_panoramas and getattr(settings, name) != getattr(type(settings)(), name):
            raise UserError(f"--{name}: turns or cuts panoramas, and {dataset_class.name} has none; leave it out")


def kept_columns(fov, width):
    """How many columns of a panorama are seen in a field of view of `fov` degrees."""
    return int(fov / FULL_CIRCLE * width)
