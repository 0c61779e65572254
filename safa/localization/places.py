"""What a query asks, and its answer: places, neighbours that agree merged into one."""

import dataclasses

import numpy as np

from safa.localization.coordinates import LocalFrame, length
from safa.localization.panorama import Panorama
from safa.localization.position_estimate import Estimate
from safa.runtime.command_line import Checked, at_least, setting
from safa.runtime.errors import UserError, shortened
from safa.settings import FULL_CIRCLE

SAME_PLACE_METRES = 25.0  # the paper's bound on CVACT: closer pairs are not negatives of each other
TURNS = 36  # of unknown headings: steps of 10 degrees, as fine as DSM counts a heading as right (11.25)


@dataclasses.dataclass(frozen=True)
class QueryConfig(Checked):
    """What is known of panoramas, and how places are told apart."""

    top: int = setting(5, "number of places in an answer", at_least(int, 1, 100), metavar="K")
    heading: float | None = setting(
        None,
        "heading of the centre columns, clockwise from north (default: as a list or the photo's tags say, else 0)",
        at_least(float, -FULL_CIRCLE, FULL_CIRCLE),
        metavar="DEGREES",
    )
    unknown_heading: bool = setting(False, "search with each panorama at --turns headings; the best place comes with its own")
    turns: int = setting(TURNS, "headings that are tried with --unknown_heading", at_least(int, 2, 360), metavar="N")
    fov: float | None = setting(
        None,
        "horizontal field of view; the rest of the circle gets the mean colour (default: as the photo's crop tags say, else "
        f"{FULL_CIRCLE})",
        at_least(float, 1, FULL_CIRCLE),
        metavar="DEGREES",
        paper="360",
    )
    vertical_fov: float | None = setting(
        None,
        "degrees from a panorama's top to its bottom (default: as the photo's crop tags say, else its size for square pixels; "
        "a whole sphere has 180)",
        at_least(float, 1, 180),
        metavar="DEGREES",
    )
    horizon: float | None = setting(
        None,
        "height of the horizon in a panorama: 0 is the top, 1 the bottom (default: as the photo's crop tags say, else 0.5)",
        at_least(float, 0, 1),
        metavar="FRACTION",
    )
    level: bool = setting(
        False,
        "level tilted photos by their tags PosePitchDegrees and PoseRollDegrees, as Google defines them; not all cameras do",
    )
    truth: str = setting(
        "list",
        "source of the known locations and headings to compare with: a list's columns, or exif: where these say nothing, the "
        "photos' own tags",
        choices=("list", "exif"),
    )
    merge_metres: float = length(SAME_PLACE_METRES, "distance within which tiles belong to one answer")
    radius: float = length(
        SAME_PLACE_METRES,
        "distance from the truth within which an answer is right; the margin is to the best tile farther away",
    )
    sequence: float | None = length(
        None,
        "metres, roughly, between panoramas that are a drive, in order, to smooth over them (default: each panorama alone)",
    )
    approximate: bool = setting(False, "search by what build --approximate made")
    near: float | None = length(None, "distance from a panorama's rough position beyond which no tile is compared", 0.1)
    gps_sigma: float | None = length(
        None,
        "standard deviation of rough positions, east and north: tiles near them are preferred (a list's column accuracy says "
        "it of each panorama)",
        0.1,
    )
    gps_from: str = setting(
        "list",
        "source of rough positions: the list, else the photo's tags; or the photo alone, so that the list tells the truth",
        choices=("list", "photo"),
    )

    def __post_init__(self):
        super().__post_init__()
        if self.heading is not None and self.unknown_heading:
            raise UserError("--heading and --unknown_heading contradict each other; leave one out")
        if self.turns != TURNS and not self.unknown_heading:
            raise UserError("--turns: of --unknown_heading; name both, or neither")

    @classmethod
    def of(cls, settings):
        """The QueryConfig of a dict of settings; a UserError says what is wrong with them."""
        try:
            return cls(**{name: value.item() if isinstance(value, np.generic) else value for name, value in settings.items()})
        except (TypeError, ValueError) as error:
            raise UserError(f"settings of a query: {shortened(error)}; see localize.py query --help") from None

    def view_name(self, panorama=None):
        """What confidence depends on: one calibration serves queries of one name. `panorama`: None: whole, of unknown place."""
        heading = f"unknown heading, {self.turns} turns" if self.unknown_heading else "known heading"
        drive, rough = "" if self.sequence is None else ", drive", panorama and panorama.rough
        fov = self.fov or round(panorama and panorama.photo.fov or FULL_CIRCLE)
        return f"{heading}, fov {fov:g}, radius {self.radius:g} m{drive}{rough.name if rough else ''}"


@dataclasses.dataclass(frozen=True)
class Place:
    """A place of an answer."""

    longitude: float  # degrees (WGS 84), of the best tile's centre; `Answer.estimate` lies between tiles
    latitude: float
    similarity: float  # of the best tile, at most 1
    heading: float  # degrees clockwise from north of the panorama's centre column, as known or as found
    tile: str  # the best tile's name
    row: int  # its row in the index
    tiles: int  # number of tiles that agree: within merge_metres, and more similar than the next place's best
    probability: float | None = None  # of a drive's posterior; None of single panoramas


@dataclasses.dataclass(frozen=True)
class Evidence:
    """The tiles that a panorama looks most like, C of them, the best first."""

    rows: np.ndarray  # (C,) int64, in the index
    similarities: np.ndarray  # (C,) float64
    headings: np.ndarray  # (C,) float64 degrees


@dataclasses.dataclass(frozen=True)
class Answer:
    """What was found for a panorama."""

    panorama: Panorama | None  # the query; None in a journal's line
    places: list[Place]  # the best first; [] of a panorama with a problem, and of a drive's until all of it is known
    # By how much the best place is more similar than the best tile farther than the radius; infinite if all tiles are closer.
    margin: float | None
    confidence: float | None = None  # probability that the best place is right, of a calibration or a drive, or None
    known: bool | None = None  # False: "unknown", below the calibration's threshold; None: not calibrated for this view
    estimate: Estimate | None = None  # where the panorama is, between tiles, and how far from there it may be
    problem: str | None = None  # why it cannot be answered
    evidence: Evidence | None = None  # what a drive or a calibration needs of it

    @property
    def metres_off(self):
        """Metres from the estimated location to the panorama's known one, or None."""
        if self.panorama.location is None or self.problem is not None:
            return None
        found = self.estimate or self.places[0]
        return float(np.hypot(*LocalFrame(*self.panorama.location).metres([(found.longitude, found.latitude)])[0]))

    @property
    def degrees_off(self):
        """Degrees, 0 to 180, between the best place's heading and the true one; None if that is not known or was given."""
        if self.panorama.true_heading is None or self.problem is not None:
            return None
        return abs((self.places[0].heading - self.panorama.true_heading + 180) % FULL_CIRCLE - 180)


def distinct_places(scores, tree, top, merge_metres):
    """The best tiles that are not the same place as a better one.

    Args:
        scores: (N,) float32; minus infinity of tiles that are not compared.
        tree: scipy.spatial.cKDTree of the tiles' (N, 2) metres.
        top: how many places.
        merge_metres: tiles this close to a better one are the same place.

    Returns:
        List of (row, rows of the tiles that are merged with it, itself among them), the best first.
    """
    left, places = scores.copy(), []
    while len(places) < top:
        row = int(left.argmax())
        if left[row] == -np.inf:
            break
        near = np.array(tree.query_ball_point(tree.data[row], merge_metres))
        near = near[left[near] > -np.inf]
        places.append((row, near))
        left[near] = -np.inf
    return places


def margin_of(scores, tree, row, radius):
    """By how much a row is better than the best one farther than `radius` from it; infinite if all are closer."""
    far = scores.copy()
    far[tree.query_ball_point(tree.data[row], radius)] = -np.inf
    return float(scores[row] - far.max(initial=-np.inf))
