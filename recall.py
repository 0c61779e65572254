"""Ranks and recalls of a retrieval: how often the true place is among the K nearest (paper, section 4.1)."""
import numpy as np
from scipy.spatial import cKDTree

REPORTED = (1, 5, 10)
BLOCK_BYTES = 2**28  # of one block of similarities
CHUNK = 64  # queries whose similarities are compared at a time: they stay in the processor's cache
PIECE_BYTES = 2**26  # of the descriptors that are multiplied in float64 at a time
# Relative errors of a dot product. The largest seen at 64 to 8,192 dimensions were 14 * 2**-24 in float32 and 9e-16 in
# float64, where BLAS sums in another order at the edges of a matrix.
FLOAT32_ROUNDING = 2.0**-18
FLOAT64_ROUNDING = 2.0**-48
TIE = 2.0**-21  # references that differ by less share their distance, but for rounding of the float32 descriptors
DENSE = 1 / 64  # above this share of close entries, one float64 product is faster than one for each of them


def ranks(sat, grd, near=None):
    """Rank of each query's true reference among all references.

    As published, the float32 descriptors are compared by their products in float64. Nearly all comparisons are already
    decided by a product in float32; only the entries that are closer to the truth than its rounding are computed again.

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
    lengths = np.linalg.norm(grd, axis=1).astype(np.float64) * np.linalg.norm(sat, axis=1).max()  # 1, but for rounding
    truth = _true_similarity(sat, grd, [[row] for row in range(len(grd))] if near is None else near)
    block = max(1, BLOCK_BYTES // (len(sat) * 4))
    for start in range(0, len(grd), block):
        end = min(start + block, len(grd))
        similarity = grd[start:end] @ sat.T  # distances are 2 - 2s, so closer means more similar
        for begin in range(start, end, CHUNK):
            rows = slice(begin, min(begin + CHUNK, end))
            strictly, at_least = _counts(similarity[rows.start - start:rows.stop - start], sat, grd[rows], truth[rows],
                                         lengths[rows])
            closer[rows], tied[rows] = strictly, at_least - 1 - strictly
    return closer, tied


def _counts(similarity, sat, queries, truth, lengths):
    """For each query, how many references are strictly closer than the truth, and how many at least as close.

    Args:
        similarity: (n, N) float32 product of `queries` and `sat`.
        sat, queries: (N, D) and (n, D) float32.
        truth: (n,) float64 similarity of the true reference.
        lengths: (n,) float64, what the product of two of them can be at most.
    """
    rounding = FLOAT32_ROUNDING * lengths
    above = similarity > (truth + rounding).astype(np.float32)[:, None]
    undecided = similarity >= (truth - rounding).astype(np.float32)[:, None]
    undecided ^= above
    nearly = truth - TIE * np.abs(truth)
    if np.count_nonzero(undecided) > DENSE * undecided.size:
        return _counts_of_all(sat, queries, truth + FLOAT64_ROUNDING * lengths, nearly)
    certain = np.count_nonzero(above, axis=1)
    chosen = np.divmod(np.flatnonzero(undecided), len(sat))  # three times as fast as np.nonzero
    return [certain + some for some in _counts_of_some(sat, queries, truth, nearly, *chosen)]


def _true_similarity(sat, queries, true):
    """Float64 similarity of each query's closest true reference: (n,); `true` lists the references of each query."""
    counts = np.array([len(references) for references in true])
    products = _products(sat, queries, np.repeat(np.arange(len(counts)), counts), np.concatenate(true))
    return np.maximum.reduceat(products, np.cumsum(counts) - counts)


def _products(sat, queries, rows, columns):
    """Float64 products of chosen queries and references, summed in the same order for each: (n,)."""
    piece = max(1, PIECE_BYTES // (16 * sat.shape[1]))
    products = np.empty(len(rows))
    for start in range(0, len(rows), piece):
        chosen = slice(start, start + piece)
        products[chosen] = np.einsum("nd,nd->n", queries[rows[chosen]], sat[columns[chosen]], dtype=np.float64)
    return products


def _counts_of_some(sat, queries, truth, nearly, rows, columns):
    """For each query, how many of the chosen references are closer than `truth`, and how many reach `nearly`."""
    products = _products(sat, queries, rows, columns)
    found = products > truth[rows], products >= nearly[rows]
    return [np.bincount(rows[each], minlength=len(queries)) for each in found]


def _counts_of_all(sat, queries, truth, nearly):
    """The same of all references."""
    queries = queries.astype(np.float64)
    piece = max(1, PIECE_BYTES // (8 * sat.shape[1]))
    strictly, at_least = np.zeros((2, len(queries)), np.int64)
    for start in range(0, len(sat), piece):
        products = queries @ sat[start:start + piece].astype(np.float64).T
        strictly += np.count_nonzero(products > truth[:, None], axis=1)
        at_least += np.count_nonzero(products >= nearly[:, None], axis=1)
    return strictly, at_least


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
