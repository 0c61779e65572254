"""Approximate search with FAISS, for indexes of millions of tiles; what it finds is compared exactly."""

import numpy as np

from safa.runtime.errors import UserError, first_line
from safa.runtime.files import open_whole

ROWS_A_LIST = 1000  # descriptors in one of the lists that FAISS sorts them into, on average
TRAINING_ROWS = 40  # per list: FAISS recommends at least 39
PROBES = 32  # lists that a query is compared with
ROWS_AT_A_TIME = 16_384
DEPTH = 500  # candidates of each query and turn that are compared exactly
SEED = 0


def _faiss():
    try:
        import faiss
    except ImportError:
        raise UserError("--approximate: needs the package faiss-cpu; pip install faiss-cpu") from None
    return faiss


def write_approximate(path, descriptors):
    """Build a FAISS index of (N, D) descriptors and write it: lists of 8-bit codes, the lists' centres found by k-means.

    Raises:
        UserError: FAISS is missing.
        OSError: the file cannot be written.
    """
    faiss = _faiss()
    count, dimension = descriptors.shape
    lists = max(1, count // ROWS_A_LIST)
    found = faiss.index_factory(dimension, f"IVF{lists},SQ8", faiss.METRIC_INNER_PRODUCT)
    rows = np.sort(np.random.default_rng(SEED).permutation(count)[: max(1000, TRAINING_ROWS * lists)])
    found.train(np.asarray(descriptors[rows], np.float32))
    for start in range(0, count, ROWS_AT_A_TIME):
        found.add(np.asarray(descriptors[start : start + ROWS_AT_A_TIME], np.float32))
    with open_whole(path) as file:
        faiss.write_index(found, faiss.PyCallbackIOWriter(file.write))


class ApproximateSearch:
    """A search for candidates in a file of `write_approximate`.

    Args:
        descriptors: (N, D) that the file was made of.

    Raises:
        UserError: FAISS is missing, or the file is damaged or of other descriptors.
    """

    def __init__(self, path, descriptors):
        faiss = _faiss()
        try:
            self._index = faiss.read_index(path)
        except RuntimeError as error:
            raise UserError(f"{path}: cannot be read ({first_line(error)}); delete the index and build it again") from None
        if (self._index.ntotal, self._index.d) != descriptors.shape:
            raise UserError(f"{path}: is of other descriptors; delete the index and build it again")
        self._index.nprobe = PROBES
        self._descriptors = descriptors

    def similarities(self, queries):
        """As `similarities.similarities`, exact, but of candidates only; all others are minus infinity."""
        number, turns, dimension = queries.shape
        shape = number, len(self._descriptors)
        found, turn = np.full(shape, -np.inf, np.float32), np.zeros(shape, np.int16)
        _, candidates = self._index.search(queries.reshape(-1, dimension), min(DEPTH, shape[1]))
        for row, own in enumerate(candidates.reshape(number, -1)):
            chosen = np.unique(own[own >= 0])
            products = queries[row] @ np.asarray(self._descriptors[chosen], np.float32).T
            turn[row, chosen] = products.argmax(axis=0)
            found[row, chosen] = products.max(axis=0)
        return found, turn
