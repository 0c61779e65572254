"""Exact search of all queries among all references, block by block: ranks of the truth, ties, and who won."""

import concurrent.futures
import dataclasses

import numpy as np

from safa.runtime.worker_pool import available_cores

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
        references: N, the number of references.
        similarity: (Q,) float64 similarity of each query, by the closest of its descriptors, with its true reference.
        turn: (Q,) int64, which of each query's T descriptors that is; 0 where it has one.
        closer: (Q,) int64, the number of references strictly closer than the true one: the rank.
        tied: (Q,) int64, the number of other references that are as close but for rounding and not counted in `closer`:
            the rank is `closer + tied` if they all come before the truth.
        near_closer: (Q,) int64, as `closer`, for the closest of each query's `near` references; None without `near`.
        winners: (Q, K) int64, the K closest references, the closest first.
        similarities: (Q, K) float64, theirs.
    """

    references: int
    similarity: np.ndarray
    turn: np.ndarray
    closer: np.ndarray
    tied: np.ndarray
    near_closer: np.ndarray | None
    winners: np.ndarray
    similarities: np.ndarray


def search(references, queries, truth, near=None, top_k=0, multiply=None):
    """Search every query among all references, in one pass over their products.

    As published, the float32 descriptors are compared by their products in float64. Nearly all comparisons are already
    decided by a product in float32; only the entries that are closer to the truth than its rounding are computed again.

    Args:
        references: (N, D) float32 descriptors of length 1.
        queries: (Q, D) float32 descriptors of length 1, or (Q, T, D): T descriptors of each query, of which the closest
            to a reference counts.
        truth: (Q,) integers, the row of each query's true reference.
        near: for each query the rows of the references that count as hits too, the true one among them
            (`positions.within`); or None.
        top_k: K, how many of the closest references to name; at most N.
        multiply: function from (n, D) float32 descriptors to their (n, N) float32 products with all references; it may
            compute them on a GPU (`device_products`). Default: NumPy's.

    Returns:
        SearchResult.

    Raises:
        ValueError: shapes do not fit, there are no rows, or a descriptor is not finite.
    """
    if references.ndim != 2 or queries.ndim not in (2, 3) or references.shape[1] != queries.shape[-1] or not queries.size:
        raise ValueError(f"references of shape {references.shape} and queries of shape {queries.shape} cannot be compared")
    truth = np.asarray(truth)
    if truth.shape != (len(queries),) or truth.min() < 0 or truth.max() >= len(references):
        raise ValueError(f"truth of shape {truth.shape} does not name a reference for each of {len(queries)} queries")
    queries = queries.reshape(len(queries), -1, references.shape[1])
    lengths = _norms(references).max() * _norms(queries).max(axis=1)  # what a product with a query is at most
    if not np.isfinite(lengths).all():
        raise ValueError("descriptors are not finite")
    multiply = multiply or (lambda rows: rows @ references.T)
    of_turns = _all_products(references, queries, np.arange(len(queries)), truth)
    true, turn = of_turns.max(axis=1), of_turns.argmax(axis=1)
    strictly, at_least, near_strictly = np.empty((3, len(queries)), np.int64)
    top_k = min(top_k, len(references))
    winners, similarities = np.empty((len(queries), top_k), np.int64), np.empty((len(queries), top_k))

    def count(products, rows):
        if queries.shape[1] > 1:
            products = products.max(axis=1)
        products = products.reshape(-1, len(references))
        given = products, references, queries[rows], lengths[rows]
        strictly[rows], at_least[rows] = _counts(*given, true[rows])
        if near is not None:
            near_strictly[rows], _ = _counts(*given, _closest_of(*given, near[rows]))
        if top_k:
            winners[rows], similarities[rows] = _closest(products, references, queries[rows], top_k)

    turns, dimension = queries.shape[1:]
    block = max(1, BLOCK_BYTES // (len(references) * turns * 4))
    chunk = max(1, CHUNK // turns)
    with concurrent.futures.ThreadPoolExecutor(available_cores()) as pool:
        for start in range(0, len(queries), block):
            end = min(start + block, len(queries))
            products = multiply(queries[start:end].reshape(-1, dimension))  # distances are 2 - 2s: closer is more similar
            products = products.reshape(end - start, turns, -1)
            starts = range(start, end, chunk)
            slices = [slice(begin, min(begin + chunk, end)) for begin in starts]
            parts = [products[rows.start - start : rows.stop - start] for rows in slices]
            list(pool.map(count, parts, slices))
            del products, parts  # before the next block is made
    near_closer = None if near is None else near_strictly
    tied = at_least - 1 - strictly
    return SearchResult(len(references), true, turn, strictly, tied, near_closer, winners, similarities)


def _norms(descriptors):
    """Norms along the last axis, summed in float64."""
    return np.sqrt(np.einsum("...d,...d", descriptors, descriptors, dtype=np.float64))


def _closest(products, references, queries, top_k):
    """The `top_k` references of the greatest float32 products, in the order of their float64 products."""
    rows = np.repeat(np.arange(len(queries)), top_k)
    chosen = np.sort(np.argpartition(products, -top_k, axis=1)[:, -top_k:], axis=1)
    exact = _products(references, queries, rows, chosen.ravel()).reshape(chosen.shape)
    order = np.argsort(-exact, axis=1, kind="stable")
    return np.take_along_axis(chosen, order, axis=1), np.take_along_axis(exact, order, axis=1)


def _counts(products, references, queries, lengths, truth):
    """For each query, how many references are strictly closer than the truth, and how many at least as close.

    Args:
        products: (n, N) float32 products of `queries` and `references`, of each query's closest descriptor.
        references, queries: (N, D) and (n, T, D) float32.
        lengths: (n,) float64, what the product of two of them can be at most.
        truth: (n,) float64 similarity of the true reference.
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


def _closest_of(products, references, queries, lengths, near):
    """Float64 similarity of each query's closest near reference: (n,); arguments as of `_counts`."""
    counts = np.array([len(rows) for rows in near])
    rows, columns = np.repeat(np.arange(len(counts)), counts), np.concatenate(near)
    starts, found = np.cumsum(counts) - counts, products[rows, columns]
    hopeful = found >= (np.maximum.reduceat(found, starts) - 2 * FLOAT32_ROUNDING * lengths)[rows]
    exact = np.full(len(rows), -np.inf)
    exact[hopeful] = _products(references, queries, rows[hopeful], columns[hopeful])
    return np.maximum.reduceat(exact, starts)


def _products(references, queries, rows, columns):
    """Float64 products of chosen queries' closest descriptors and chosen references: (n,)."""
    return _all_products(references, queries, rows, columns).max(axis=1)


def _all_products(references, queries, rows, columns):
    """Float64 products of all T descriptors of chosen queries with chosen references, each summed in one order: (n, T)."""
    turns, dimension = queries.shape[1:]
    piece = max(1, PIECE_BYTES // (16 * turns * dimension))
    products = np.empty((len(rows), turns))
    for start in range(0, len(rows), piece):
        chosen = slice(start, start + piece)
        products[chosen] = np.einsum("ntd,nd->nt", queries[rows[chosen]], references[columns[chosen]], dtype=np.float64)
    return products


def _counts_of_some(references, queries, truth, nearly, rows, columns):
    """For each query, how many of the chosen references are closer than `truth`, and how many reach `nearly`."""
    products = _products(references, queries, rows, columns)
    found = products > truth[rows], products >= nearly[rows]
    return [np.bincount(rows[each], minlength=len(queries)) for each in found]


def _counts_of_all(references, queries, truth, nearly):
    """The same of all references."""
    count, turns, dimension = queries.shape
    queries = queries.reshape(-1, dimension).astype(np.float64)
    piece = max(1, PIECE_BYTES // (8 * dimension))
    strictly, at_least = np.zeros((2, count), np.int64)
    for start in range(0, len(references), piece):
        products = queries @ references[start : start + piece].astype(np.float64).T
        products = products.reshape(count, turns, -1).max(axis=1)
        strictly += np.count_nonzero(products > truth[:, None], axis=1)
        at_least += np.count_nonzero(products >= nearly[:, None], axis=1)
    return strictly, at_least
