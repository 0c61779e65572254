"""Exact search of all queries among all references, block by block: ranks of the truth, ties, and who won."""

import concurrent.futures
import dataclasses
import functools

import numpy as np

from safa.runtime.progress import ProgressBar
from safa.runtime.worker_pool import available_cores

BLOCK_BYTES = 2**29  # of one block of similarities: the references are converted once for all its queries
PIECE_BYTES = 2**26  # of the references that are multiplied at a time
CHUNK = 64  # queries whose similarities are compared at a time: they stay in the processor's cache
# Error of a product of descriptors of length 1: BLAS sums in another order at the edges of a matrix. The largest seen at 64 to
# 8,192 dimensions was 9e-16.
ROUNDING = 2.0**-48
TIE = 2.0**-21  # references that differ by less share their distance, but for rounding of the float32 descriptors


@dataclasses.dataclass(frozen=True)
class SearchResult:
    """What a search found for each of Q queries."""

    references: int  # N, their number
    similarity: np.ndarray  # (Q,) float64, of each query, by the closest of its descriptors, with its true reference
    turn: np.ndarray  # (Q,) int64, which of each query's T descriptors that is; 0 where it has one
    closer: np.ndarray  # (Q,) int64, the number of references strictly closer than the true one: the rank
    # (Q,) int64, the number of other references that are as close but for rounding and not counted in `closer`: the rank is
    # `closer + tied` if they all come before the truth.
    tied: np.ndarray
    near_closer: np.ndarray | None  # (Q,) int64, as `closer`, for the closest of each query's `near` references, if any
    others_closer: np.ndarray | None  # (Q,) int64, as `closer`, without the query's `near` references, if any
    winners: np.ndarray  # (Q, K) int64, the K closest references, the closest first
    similarities: np.ndarray  # (Q, K) float64, theirs


def search(references, queries, truth, near=None, top_k=0, device=None):
    """Search every query among all references, by the products of their float32 descriptors in float64, as published.

    Args:
        references: (N, D) float32 descriptors of length 1.
        queries: (Q, D) float32 descriptors of length 1, or (Q, T, D): T descriptors of each query, of which the closest
            to a reference counts.
        truth: (Q,) integers, the row of each query's true reference.
        near: for each query the rows of the references that count as hits too, each once, the true one among them; or None.
        top_k: K, how many of the closest references to name; at most N.
        device: of TensorFlow's, that multiplies, in float64 too: "GPU:0", for instance. NumPy does if there is none.

    Returns:
        SearchResult.

    Raises:
        ValueError: shapes do not fit, an array is empty, or a descriptor is not finite.
    """
    if references.ndim != 2 or queries.ndim not in (2, 3) or references.shape[1] != queries.shape[-1] or not queries.size:
        raise ValueError(f"references of shape {references.shape} and queries of shape {queries.shape} cannot be compared")
    truth = np.asarray(truth)
    if truth.shape != (len(queries),) or truth.min() < 0 or truth.max() >= len(references):
        raise ValueError(f"truth of shape {truth.shape} does not name a reference for each of {len(queries)} queries")
    if not np.isfinite(references.sum() + queries.sum()):
        raise ValueError("descriptors are not finite")
    queries = queries.reshape(len(queries), -1, references.shape[1])
    multiply = device and _products_on(device, references) or functools.partial(products_with, references)
    _, turns, dimension = queries.shape
    block, chunk = max(1, BLOCK_BYTES // (len(references) * turns * 8)), max(1, CHUNK // turns)
    compare, parts = functools.partial(_compare, truth, near, top_k), []
    bar = ProgressBar(None, "search", len(queries), "queries")
    with bar, concurrent.futures.ThreadPoolExecutor(available_cores()) as pool:
        for start in range(0, len(queries), block):
            products = multiply(queries[start : start + block].reshape(-1, dimension)).reshape(-1, turns, len(references))
            rows, cuts = np.arange(start, start + len(products)), range(chunk, len(products), chunk)
            parts += pool.map(compare, np.split(products, cuts), np.split(rows, cuts))
            bar.update(len(rows))
    columns = zip(*parts, strict=True)
    return SearchResult(len(references), *(None if column[0] is None else np.concatenate(column) for column in columns))


def products_with(references, rows):
    """(n, N) float64 products of (n, D) float32 descriptors with all references, which are converted piece by piece."""
    rows, products = rows.astype(np.float64), np.empty((len(rows), len(references)))
    piece = max(1, PIECE_BYTES // (8 * references.shape[1]))
    for start in range(0, len(references), piece):
        products[:, start : start + piece] = rows @ references[start : start + piece].astype(np.float64).T
    return products


def _products_on(device, references):
    """As `products_with`, on a device in whose memory the references stay as float64.

    None if TensorFlow lacks such devices or they do not fit; products that do not are NumPy's.
    """
    import tensorflow as tf

    too_large = tf.errors.ResourceExhaustedError, tf.errors.InternalError  # the second of what is copied there
    if not tf.config.list_logical_devices(device.partition(":")[0]):
        return None
    try:
        with tf.device(device):
            there = tf.cast(tf.constant(references), tf.float64)
    except too_large:
        return None

    def multiply(rows):
        try:
            with tf.device(device):
                return tf.matmul(tf.cast(tf.constant(rows), tf.float64), there, transpose_b=True).numpy()
        except too_large:
            return products_with(references, rows)

    return multiply


def _compare(truth, near, top_k, products, rows):
    """The columns of a SearchResult, in their order, of n rows of queries by (n, T, N) similarities with all references."""
    queries, truth = np.arange(len(rows)), truth[rows]
    turn = products[queries, :, truth].argmax(axis=1)
    products = products.max(axis=1) if products.shape[1] > 1 else products[:, 0]
    true, near_closer, others_closer = products[queries, truth], None, None
    closer = np.count_nonzero(products > (true + ROUNDING)[:, None], axis=1)  # distances are 2 - 2s: closer is more similar
    tied = np.count_nonzero(products >= (true - TIE * np.abs(true))[:, None], axis=1) - 1 - closer
    if near is not None:
        of_near = [similarities[near[row]] for similarities, row in zip(products, rows, strict=True)]
        best = np.array([similarities.max() for similarities in of_near])
        near_closer = np.count_nonzero(products > (best + ROUNDING)[:, None], axis=1)
        others_closer = closer - [np.count_nonzero(each > bound) for each, bound in zip(of_near, true + ROUNDING, strict=True)]
    return true, turn, closer, tied, near_closer, others_closer, *closest(products, min(top_k, products.shape[1]))


def closest(found, top_k):
    """The greatest of each row, in order: (Q, N) -> (Q, K) int64 columns and (Q, K) values."""
    chosen = np.argpartition(found, -top_k, axis=1)[:, -top_k:] if top_k else np.empty((len(found), 0), int)
    chosen.sort(axis=1)
    values = np.take_along_axis(found, chosen, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(chosen, order, axis=1), np.take_along_axis(values, order, axis=1)
