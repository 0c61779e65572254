"""What is searched for among what: queries, references, and which matches count."""

import dataclasses
import hashlib

import numpy as np

from safa.datasets.positions import count_within, within
from safa.runtime.errors import UserError

GROUND_TO_AERIAL, AERIAL_TO_GROUND = "ground_to_aerial", "aerial_to_ground"
DIRECTIONS = (GROUND_TO_AERIAL, AERIAL_TO_GROUND)  # the paper's first
ACCEPTABLE = "acceptable"  # name of the recall that counts the dataset's further hits
MOST_NEAR = 2**24  # hits besides the truth, of all queries: they take 0.6 GB while they are searched for


@dataclasses.dataclass(frozen=True)
class Task:
    """A search of Q queries among N references."""

    ids: list  # Q strings
    queries: np.ndarray  # (Q,) int64, their rows among the images of their kind
    truth: np.ndarray  # (Q,) int64, the row of each query's true reference
    near: list | None = None  # for each query the rows of all hits, each once, the true reference among them; None: only this
    counted: str | None = None  # name of the recall that counts them: "within_5m" or "acceptable"; None without `near`
    query_utm: np.ndarray | None = None  # (Q, 2) float64 easting and northing in metres
    reference_utm: np.ndarray | None = None  # (N, 2), the same of the references
    has_hit_rate: bool = False  # whether VIGOR's is reported, of the true reference among all that are not `near`

    @property
    def digest(self):
        """The queries' ids in their order, and what is right for them where the ids do not say it, as 16 hexadecimal digits:
        results of the same queries can be compared.
        """
        content = hashlib.sha256("\n".join(self.ids).encode(errors="surrogateescape"))
        if not np.array_equal(self.truth, np.arange(len(self.ids))):
            content.update(self.truth)
        if self.counted == ACCEPTABLE:
            content.update(repr([rows.tolist() for rows in self.near]).encode())
        return content.hexdigest()[:16]


def task_of(pairs, direction=GROUND_TO_AERIAL, radius=None):
    """The search that a split asks for.

    Args:
        pairs: datasets.dataset.Pairs.
        direction: GROUND_TO_AERIAL, the paper's, or AERIAL_TO_GROUND, where tiles are the queries and panoramas the
            references. A tile with several panoramas has the first as its truth, and all of them are acceptable.
        radius: metres within which a match counts too (default: the dataset's).

    Returns:
        Task.

    Raises:
        UserError: a radius, and the dataset lacks coordinates or has far too many places within it.
    """
    if direction == GROUND_TO_AERIAL:
        queries, truth, ids = np.arange(len(pairs)), pairs.truth, pairs.ids
        acceptable, place = _with(truth, pairs.acceptable), (pairs.query_utm, pairs.utm)
    else:
        queries, truth = np.unique(pairs.truth, return_index=True)
        only_truth = pairs.one_to_one and pairs.acceptable is None
        ids, acceptable = [pairs.ids[row] for row in truth], None if only_truth else _panoramas_of(pairs, queries)
        place = (None if pairs.utm is None else pairs.utm[queries]), pairs.query_utm
    radius = pairs.dataset.hit_metres if radius is None else radius
    if radius is None:
        has_hit_rate = acceptable is not None and direction == GROUND_TO_AERIAL
        return Task(ids, queries, truth, acceptable, acceptable and ACCEPTABLE, *place, has_hit_rate)
    if pairs.utm is None:
        raise UserError(f"--radius {radius:g}: {pairs.dataset.name} has no coordinates in metres; leave it out")
    if (found := count_within(place[1], radius, place[0])) > MOST_NEAR:
        what = f"within it of the queries lie {found:,} references, more than {MOST_NEAR:,}"
        raise UserError(f"--radius {radius:g}: {what}; use a smaller one")
    return Task(ids, queries, truth, _with(truth, within(place[1], radius, of=place[0])), f"within_{radius:g}m", *place)


def _with(truth, near):
    """The rows of each query's near references, its true one among them; None for None."""
    return near and [rows if true in rows else np.append(rows, true) for rows, true in zip(near, truth, strict=True)]


def _panoramas_of(pairs, tiles):
    """For each tile the rows of all panoramas that it is right for."""
    right = [[] for _ in pairs.sat_paths]
    for panorama, rows in enumerate(_with(pairs.truth, pairs.acceptable) or pairs.truth[:, None]):
        for row in rows:
            right[row].append(panorama)
    return [np.array(right[tile]) for tile in tiles]
