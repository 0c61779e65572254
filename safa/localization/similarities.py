"""Similarities of queries with all descriptors of an index, in blocks: exact, with bounded memory."""

import concurrent.futures

import numpy as np

from safa.runtime.worker_pool import available_cores

BLOCK_BYTES = 2**24  # of descriptors in float32 that are multiplied at a time: they stay in the processor's cache


def similarities(descriptors, queries):
    """The similarity of each query's best turn with every descriptor, in one pass over them.

    Args:
        descriptors: (N, D) float16 or float32, may be mapped into memory.
        queries: (Q, T, D) float32, T turns of each query.

    Returns:
        (Q, N) float32 similarities, and (Q, N) int16, the turn that each belongs to.
    """
    count, (number, turns, dimension) = len(descriptors), queries.shape
    rows = queries.reshape(-1, dimension)
    found, turn = np.empty((number, count), np.float32), np.zeros((number, count), np.int16)
    block = max(1, BLOCK_BYTES // (4 * dimension))
    starts = range(0, count, block)
    # One block is multiplied while the next ones are read and converted.
    with concurrent.futures.ThreadPoolExecutor(available_cores()) as pool:
        ahead = [pool.submit(_float32, descriptors, start, block) for start in starts[:2]]
        for start in starts:
            ahead.append(pool.submit(_float32, descriptors, start + 2 * block, block))  # empty after the last one
            products = (rows @ ahead.pop(0).result().T).reshape(number, turns, -1)
            best = products.argmax(axis=1)
            turn[:, start : start + block] = best
            found[:, start : start + block] = np.take_along_axis(products, best[:, None], axis=1)[:, 0]
    return found, turn


def closest(found, top_k):
    """The greatest of each row, in order: (Q, N) -> (Q, K) int64 columns and (Q, K) values."""
    count = found.shape[1]
    chosen = np.argpartition(found, count - top_k, axis=1)[:, count - top_k :] if top_k < count else np.arange(count)
    chosen = np.sort(np.broadcast_to(chosen, (len(found), top_k)), axis=1)
    values = np.take_along_axis(found, chosen, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(chosen, order, axis=1), np.take_along_axis(values, order, axis=1)


def _float32(descriptors, start, block):
    return np.asarray(descriptors[start : start + block], np.float32)
