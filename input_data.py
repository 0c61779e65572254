"""Batches of images as the network takes them, read ahead in threads (paper, section 4)."""

import collections
import concurrent.futures
import itertools
import typing

import numpy as np

READ_AHEAD = 2  # batches


class Images(typing.Protocol):
    """The images of one branch: (height, width) and dtype, uint8 or float32, of each, and a function that reads a row's."""

    shape: tuple
    dtype: typing.Any

    def read(self, row: int) -> np.ndarray:
        """The image of a row: (height, width, 3), BGR, 0..255, of that dtype. Raises where it cannot be read."""


class Pairs(typing.Protocol):
    """Pairs of a panorama, the query, and its reference.

    Attributes:
        sat, grd: Images of N references and Q queries.
        truth: (Q,) int64, the row of each query's reference.
    """

    sat: Images
    grd: Images
    truth: np.ndarray


class Batch(typing.NamedTuple):
    """A batch of training pairs, or a device's share of it; B slots.

    Attributes:
        sat, grd: (B, H, W, 3), BGR, of the images' dtype.
        negatives: (B, B of the whole batch) float32, 1 where the satellite image of a slot is a negative of a panorama; None:
            of all but its own.
        offset: () int64, the slot in the whole batch that a device's share begins with; None before it is spread.
    """

    sat: np.ndarray
    grd: np.ndarray
    negatives: np.ndarray | None = None
    offset: typing.Any = None


def batches(pairs, order, batch_size, threads=None):
    """Read batches of pairs in threads, a few batches ahead of their use.

    Args:
        pairs: Pairs.
        order: rows of the queries, in the order in which they are to come.
        batch_size: pairs in a batch; the last batch may have fewer.
        threads: number of reading threads (default: `concurrent.futures`' own).

    Yields:
        Batch.

    Raises:
        What `read` raises; ValueError, TypeError for an image of another shape or dtype. No batch holds one that was not read.
    """
    order = np.asarray(order, np.int64)
    for sat, grd in _read_ahead([(pairs.sat, pairs.truth[order]), (pairs.grd, order)], batch_size, threads):
        yield Batch(sat, grd)


def image_batches(images, order, batch_size, threads=None):
    """Read batches of one branch's Images; other arguments and errors as of `batches`.

    Yields:
        (B, *shape, 3), BGR, of the images' dtype.
    """
    for (batch,) in _read_ahead([(images, np.asarray(order, np.int64))], batch_size, threads):
        yield batch


def _read_ahead(branches, batch_size, threads):
    """Yield a list of (B, H, W, 3) arrays a batch, one for each of `branches`: (Images, rows)."""
    count = len(branches[0][1])
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:

        def read(arrays, slot, number):
            for array, (images, rows) in zip(arrays, branches, strict=True):
                # An assignment would repeat a single channel, and cut fractions off.
                np.stack([images.read(rows[number])], out=array[slot : slot + 1], casting="same_kind")

        def begin(start):
            end = min(start + batch_size, count)
            arrays = [np.empty((end - start, *images.shape, 3), images.dtype) for images, _ in branches]
            return arrays, [pool.submit(read, arrays, number - start, number) for number in range(start, end)]

        starts = iter(range(0, count, batch_size))
        begun = collections.deque()
        try:
            while True:
                begun.extend(begin(start) for start in itertools.islice(starts, 1 + READ_AHEAD - len(begun)))
                if not begun:
                    return
                arrays, reads = begun.popleft()
                for each in reads:
                    each.result()
                yield arrays
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def epoch_order(count, epoch, seed):
    """Shuffled rows of one epoch: (count,) int64, the same for the same seed and epoch."""
    return np.random.default_rng([seed, epoch]).permutation(count)
