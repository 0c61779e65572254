"""How panoramas are compared with an index's descriptors: all of them, shorter ones (PCA), or candidates (FAISS)."""

import collections
import concurrent.futures
import functools
import threading

import numpy as np
import scipy.linalg

from safa.localization.coordinates import needed
from safa.runtime.errors import UserError, first_line
from safa.runtime.files import open_whole, ordinary
from safa.runtime.worker_pool import available_cores

BLOCK_BYTES = 2**22  # of descriptors in float32 that a core multiplies at a time: they stay in its cache
FEW_ROWS = 16  # of queries and turns, that are multiplied with float16 as it is; more are faster in float32, by BLAS
LOW_FACTOR = np.float32(2.0**11)  # what the rounding to a float16 leaves is smaller than the value by it
PROJECTION_ROWS = 50_000  # that the directions are fitted on; more change them little
FITTED_AT_A_TIME, SORTED_AT_A_TIME = 4096, 16_384  # rows
ROWS_A_LIST = 1000  # descriptors in one of the lists that FAISS sorts them into, on average
TRAINING_ROWS = 40  # per list: FAISS recommends at least 39
PROBES = 32  # lists that a query is compared with
DEPTH = 500  # candidates of each query and turn that are compared exactly
SEED = 0
FAISS = ("faiss", "--approximate", "pip install faiss-cpu")


def similarities(descriptors, queries, rows=None):
    """The similarity of each query's best turn with every descriptor, in one pass over them.

    Args:
        descriptors: (M, D) float16 or float32, may be mapped into memory.
        queries: (Q, T, D) float32, T turns of each query.
        rows: (N,) of the descriptors that are compared, or None: all.

    Returns:
        (Q, N) float32 similarities, and (Q, N) int16, the turn that each belongs to.
    """
    count, (number, turns, dimension) = len(descriptors if rows is None else rows), queries.shape
    asked = queries.reshape(-1, dimension)
    found, turn = np.empty((number, count), np.float32), np.zeros((number, count), np.int16)
    block = max(1, BLOCK_BYTES // (4 * dimension))
    product = _product_of_halves(asked) if descriptors.dtype == np.float16 and len(asked) <= FEW_ROWS else None

    def compare(start):
        own = slice(start, start + block)
        part = descriptors[own if rows is None else rows[own]]
        products = (product(part) if product else asked @ as_float32(part).T).reshape(number, turns, -1)
        if turns > 1:
            turn[:, own] = best = products.argmax(axis=1)
            products = np.take_along_axis(products, best[:, None], axis=1)
        found[:, own] = products[:, 0]

    # Each core converts and multiplies blocks of its own. BLAS's threads would wait for each other in every block.
    with _SEARCH, _blas().limit(limits=1, user_api="blas"), concurrent.futures.ThreadPoolExecutor(available_cores()) as pool:
        collections.deque(pool.map(compare, range(0, count, block)), maxlen=0)
    return found, turn


_SEARCH = threading.Lock()  # a search uses all cores, and BLAS's number of threads is the process's


@functools.cache
def _blas():
    return needed("threadpoolctl").ThreadpoolController()


def _product_of_halves(rows):
    """The product of (R, D) float32 rows with (n, D) float16: a function of these -> (R, n) float32.

    A float32 is the sum of two float16, one for its first bits and one for the next; products are added up in float32.
    """
    numkong = needed("numkong")
    high = rows.astype(np.float16)
    packed = numkong.dots_pack(np.concatenate([high, ((rows - high) * LOW_FACTOR).astype(np.float16)]))

    def product(block):
        high, low = np.asarray(numkong.dots_packed(block, packed)).T.reshape(2, len(rows), -1)
        return high + low / LOW_FACTOR

    return product


def as_float32(block):
    """(n, D) float16 or float32 -> float32, exactly; NumPy's own conversion takes ten times as long."""
    return np.asarray(needed("numkong").astype(block, "float32") if block.dtype == np.float16 else block, np.float32)


def fit_projection(descriptors, values):
    """The directions that keep the most of (N, D) descriptors: (D, `values`) float32, orthonormal, the most important first.

    Products of projected descriptors, `descriptors @ directions`, are the best that so few values can do for the mean square
    error. Descriptors are not centred, since products are what a search compares.
    """
    count, dimension = descriptors.shape
    rows = np.sort(np.random.default_rng(SEED).permutation(count)[:PROJECTION_ROWS])
    moments = np.zeros((dimension, dimension))
    for start in range(0, len(rows), FITTED_AT_A_TIME):
        part = np.asarray(descriptors[rows[start : start + FITTED_AT_A_TIME]], np.float32)
        moments += part.T @ part
    _, vectors = scipy.linalg.eigh(moments, subset_by_index=(dimension - values, dimension - 1))
    vectors = vectors[:, ::-1]
    # The sign of a direction is arbitrary; its largest value is positive, so that the same descriptors give the same bytes.
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(values)])
    return np.ascontiguousarray(vectors * signs, np.float32)


def write_approximate(path, descriptors):
    """Build a FAISS index of (N, D) descriptors and write it: lists of 8-bit codes, the lists' centres found by k-means.

    Raises:
        UserError: FAISS is missing.
        OSError: the file cannot be written.
    """
    faiss = needed(*FAISS)
    count, dimension = descriptors.shape
    lists = max(1, count // ROWS_A_LIST)
    found = faiss.index_factory(dimension, f"IVF{lists},SQ8", faiss.METRIC_INNER_PRODUCT)
    rows = np.sort(np.random.default_rng(SEED).permutation(count)[: max(1000, TRAINING_ROWS * lists)])
    found.train(np.asarray(descriptors[rows], np.float32))
    for start in range(0, count, SORTED_AT_A_TIME):
        found.add(np.asarray(descriptors[start : start + SORTED_AT_A_TIME], np.float32))
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
        faiss = needed(*FAISS)
        try:
            open(path, "rb", opener=ordinary).close()
            self._index = faiss.read_index(path)
        except (OSError, RuntimeError) as error:
            raise UserError(f"{path}: cannot be read ({first_line(error)}); delete the index and build it again") from None
        if (self._index.ntotal, self._index.d) != descriptors.shape:
            raise UserError(f"{path}: is of other descriptors; delete the index and build it again")
        self._index.nprobe = PROBES
        self._descriptors = descriptors

    def similarities(self, queries):
        """As `similarities`, exact, but of candidates only; all others are minus infinity."""
        number, turns, dimension = queries.shape
        shape = number, len(self._descriptors)
        found, turn = np.full(shape, -np.inf, np.float32), np.zeros(shape, np.int16)
        _, candidates = self._index.search(queries.reshape(-1, dimension), min(DEPTH, shape[1]))
        for row, own in enumerate(candidates.reshape(number, -1)):
            chosen = np.unique(own[own >= 0])
            products = queries[row] @ as_float32(self._descriptors[chosen]).T
            turn[row, chosen] = products.argmax(axis=0)
            found[row, chosen] = products.max(axis=0)
        return found, turn
