"""Exact search of all queries among all references, block by block: ranks of the truth, ties, and who won."""

import dataclasses

import numpy as np

BLOCK_BYTES = 2**28  # of one block of similarities
CHUNK = 64  # queries whose similarities are compared at a time: they stay in the processor's cache
PIECE_BYTES = 2**26  # of the descriptors that are multiplied in float64 at a time
# Relative errors of a dot product. The largest seen at 64 to 8,192 dimensions were 14 * 2**-24 in float32 and 9e-16 in
# float64, where BLAS sums in another order at the edges of a matrix.
FLOAT32_ROUNDING = 2.0**-18
FLOAT64_ROUNDING = 2.0**-48
TIE = 2.0**-21  # references that differ by less share their distance, but for rounding of the float32 descriptors
DENSE = 1 / 64  # above this share of close entries, one float64 product is faster than one for each of them


@dataclasses.dataclass(frozen=True)
class SearchResult:
    """What a search found for each of Q queries.

    Attributes:
        closer: (Q,) int64, the number of references strictly closer than the true one: the rank.
        tied: (Q,) int64, the number of other references that are as close but for rounding and not counted in `closer`:
            the rank is `closer + tied` if they all come before the truth.
        near_closer: (Q,) int64, as `closer`, for the closest of each query's `near` references; None without `near`.
        winners: (Q, K) int64, the K closest references, the closest first.
        similarities: (Q, K) float64, theirs.
    """

    closer: np.ndarray
    tied: np.ndarray
    near_closer: np.ndarray | None
    winners: np.ndarray
    similarities: np.ndarray


def search(references, queries, truth, near=None, top_k=0):
    """Search every query among all references, in one pass over their products.

    As published, the float32 descriptors are compared by their products in float64. Nearly all comparisons are already
    decided by a product in float32; only the entries that are closer to the truth than its rounding are computed again.

    Args:
        references: (N, D) float32 descriptors of length 1.
        queries: (Q, D) float32 descriptors of length 1.
        truth: (Q,) integers, the row of each query's true reference.
        near: for each query the rows of the references that count as hits too, the true one among them
            (`positions.within`); or None.
        top_k: K, how many of the closest references to name; at most N.

    Returns:
        SearchResult.

    Raises:
        ValueError: shapes do not fit, there are no rows, or a descriptor is not finite.
    """
    if references.ndim != 2 or references.shape[1:] != queries.shape[1:] or not len(references) or not len(queries):
        raise ValueError(f"references of shape {references.shape} and queries of shape {queries.shape} cannot be compared")
    truth = np.asarray(truth)
    if truth.shape != (len(queries),) or truth.min() < 0 or truth.max() >= len(references):
        raise ValueError(f"truth of shape {truth.shape} does not name a reference for each of {len(queries)} queries")
    if not (np.isfinite(references).all() and np.isfinite(queries).all()):
        raise ValueError("descriptors are not finite")
    lengths = np.linalg.norm(queries, axis=1).astype(np.float64) * np.linalg.norm(references, axis=1).max()
    true = [_products(references, queries, np.arange(len(queries)), truth)]
    if near is not None:
        true.append(_closest_of(references, queries, near))
    strictly, at_least = np.empty((2, len(true), len(queries)), np.int64)
    top_k = min(top_k, len(references))
    winners, similarities = np.empty((len(queries), top_k), np.int64), np.empty((len(queries), top_k))
    block = max(1, BLOCK_BYTES // (len(references) * 4))
    for start in range(0, len(queries), block):
        end = min(start + block, len(queries))
        products = queries[start:end] @ references.T  # distances are 2 - 2s, so closer means more similar
        for begin in range(start, end, CHUNK):
            rows = slice(begin, min(begin + CHUNK, end))
            chunk = products[rows.start - start : rows.stop - start]
            for number, threshold in enumerate(true):
                strictly[number, rows], at_least[number, rows] = _counts(
                    chunk, references, queries[rows], threshold[rows], lengths[rows]
                )
            if top_k:
                winners[rows], similarities[rows] = _closest(chunk, references, queries[rows], top_k)
    return SearchResult(
        strictly[0], at_least[0] - 1 - strictly[0], strictly[1] if near is not None else None, winners, similarities
    )


def _closest(products, references, queries, top_k):
    """The `top_k` references of the greatest float32 products, in the order of their float64 products."""
    rows = np.repeat(np.arange(len(queries)), top_k)
    chosen = np.sort(np.argpartition(products, -top_k, axis=1)[:, -top_k:], axis=1)
    exact = _products(references, queries, rows, chosen.ravel()).reshape(chosen.shape)
    order = np.argsort(-exact, axis=1, kind="stable")
    return np.take_along_axis(chosen, order, axis=1), np.take_along_axis(exact, order, axis=1)


def _counts(products, references, queries, truth, lengths):
    """For each query, how many references are strictly closer than the truth, and how many at least as close.

    Args:
        products: (n, N) float32 products of `queries` and `references`.
        references, queries: (N, D) and (n, D) float32.
        truth: (n,) float64 similarity of the true reference.
        lengths: (n,) float64, what the product of two of them can be at most.
    """
    rounding = FLOAT32_ROUNDING * lengths
    above = products > (truth + rounding).astype(np.float32)[:, None]
    undecided = products >= (truth - rounding).astype(np.float32)[:, None]
    undecided ^= above
    nearly = truth - TIE * np.abs(truth)
    if np.count_nonzero(undecided) > DENSE * undecided.size:
        return _counts_of_all(references, queries, truth + FLOAT64_ROUNDING * lengths, nearly)
    certain = np.count_nonzero(above, axis=1)
    chosen = np.divmod(np.flatnonzero(undecided), len(references))  # three times as fast as np.nonzero
    return [certain + some for some in _counts_of_some(references, queries, truth, nearly, *chosen)]


def _closest_of(references, queries, near):
    """Float64 similarity of each query's closest near reference: (Q,)."""
    counts = np.array([len(rows) for rows in near])
    products = _products(references, queries, np.repeat(np.arange(len(counts)), counts), np.concatenate(near))
    return np.maximum.reduceat(products, np.cumsum(counts) - counts)


def _products(references, queries, rows, columns):
    """Float64 products of chosen queries and references, summed in the same order for each: (n,)."""
    piece = max(1, PIECE_BYTES // (16 * references.shape[1]))
    products = np.empty(len(rows))
    for start in range(0, len(rows), piece):
        chosen = slice(start, start + piece)
        products[chosen] = np.einsum("nd,nd->n", queries[rows[chosen]], references[columns[chosen]], dtype=np.float64)
    return products


def _counts_of_some(references, queries, truth, nearly, rows, columns):
    """For each query, how many of the chosen references are closer than `truth`, and how many reach `nearly`."""
    products = _products(references, queries, rows, columns)
    found = products > truth[rows], products >= nearly[rows]
    return [np.bincount(rows[each], minlength=len(queries)) for each in found]


def _counts_of_all(references, queries, truth, nearly):
    """The same of all references."""
    queries = queries.astype(np.float64)
    piece = max(1, PIECE_BYTES // (8 * references.shape[1]))
    strictly, at_least = np.zeros((2, len(queries)), np.int64)
    for start in range(0, len(references), piece):
        products = queries @ references[start : start + piece].astype(np.float64).T
        strictly += np.count_nonzero(products > truth[:, None], axis=1)
        at_least += np.count_nonzero(products >= nearly[:, None], axis=1)
    return strictly, at_least
