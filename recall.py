"""Ranks and recalls of a retrieval: how often the true place is among the K nearest (paper, section 4.1)."""
import numpy as np
from scipy.spatial import cKDTree

REPORTED = (1, 5, 10)
BLOCK_BYTES = 2**28  # of one block of similarities
# Equal descriptors get equal similarities but for rounding: a matrix product sums in another order at its edges.
TIE = 2.0**-21


def ranks(sat, grd, near=None):
    """Rank of each query's true reference among all references.

    Args:
        sat: (N, D) float32 descriptors of length 1, the references.
        grd: (N, D) float32 descriptors of length 1, the queries; row i's truth is row i of `sat`.
        near: for each query the rows of the references that count as true, its own among them (`within`); the rank is
            then that of the closest of these. None: only its own.

    Returns:
        closer: (N,) int64, the number of references that are strictly closer than the true one: the rank.
        tied: (N,) int64, the number of other references that are as close but for rounding and not counted in
            `closer`: the rank is `closer + tied` if they all come before the truth.

    Raises:
        ValueError: shapes differ, there are no rows, or a descriptor is not finite.
    """
    if sat.shape != grd.shape or sat.ndim != 2 or not len(sat):
        raise ValueError(f"descriptors of shapes {sat.shape} and {grd.shape} are no pairs")
    if not (np.isfinite(sat).all() and np.isfinite(grd).all()):
        raise ValueError("descriptors are not finite")
    closer = np.empty(len(grd), np.int64)
    tied = np.empty(len(grd), np.int64)
    block = max(1, BLOCK_BYTES // (len(sat) * 4))
    for start in range(0, len(grd), block):
        rows = slice(start, start + block)
        # Distances are 2 - 2s, so closer means more similar. The truth is taken from the same product, since another
        # one may differ in the last bit.
        similarity = grd[rows] @ sat.T
        truth = np.diagonal(similarity, offset=start)
        if near is not None:
            counts = [len(references) for references in near[rows]]
            true = similarity[np.repeat(np.arange(len(counts)), counts), np.concatenate(near[rows])]
            truth = np.maximum.reduceat(true, np.cumsum(counts) - counts)
        truth = truth[:, None]
        closer[rows] = np.count_nonzero(similarity > truth, axis=1)
        tied[rows] = np.count_nonzero(similarity >= truth - TIE * np.abs(truth), axis=1) - 1 - closer[rows]
    return closer, tied


def within(utm, metres):
    """The places that lie within a distance of each place.

    Args:
        utm: (N, 2) float64 easting and northing in metres.
        metres: the distance.

    Returns:
        List of N integer arrays, each with the place's own row among them.
    """
    centred = utm - utm.mean(axis=0)  # so that nothing is lost in the millions of a northing
    return [np.array(rows) for rows in cKDTree(centred).query_ball_point(centred, metres)]


def recall_at(rank, k):
    """Share of queries whose truth is among the k nearest: recall@k, a fraction."""
    return float(np.mean(rank < k))


def one_percent(references):
    """The K of recall@1%: int(0.01 N), and 1 for fewer than 100 references, where that would be 0."""
    return max(1, references // 100)


def recall_curve(rank, count):
    """recall@1, ..., recall@count: (count,) float64."""
    return np.bincount(np.minimum(rank, count), minlength=count + 1)[:count].cumsum() / len(rank)


def reported_recalls(rank):
    """The four recalls that papers report: {"1", "5", "10", "1%"}, fractions."""
    recalls = {str(k): recall_at(rank, k) for k in REPORTED}
    return recalls | {"1%": recall_at(rank, one_percent(len(rank)))}
