"""Batches of images as the network takes them, read ahead in threads (paper, section 4)."""

import collections
import concurrent.futures
import dataclasses
import itertools
import typing

import numpy as np

from safa.datasets.image_files import read_input
from safa.runtime.worker_pool import available_cores

READ_AHEAD = 2  # batches


@dataclasses.dataclass(frozen=True)
class Images:
    """The images of one view.

    Attributes:
        paths: N files.
        shape: (height, width) of the network's input; images of another size are resized by area.
        cache: datasets.image_cache.CachedView of these files, or None.
        turned: datasets.panorama_views.TurnedPanoramas of N rows, or None.
        augmented: function of a row and its image that changes it, before it is turned, or None.
    """

    paths: list
    shape: tuple
    cache: object = None
    turned: object = None
    augmented: object = None

    @property
    def dtype(self):
        """Of the images: uint8, or float32 where a part of them is not seen."""
        return np.uint8 if self.turned is None else self.turned.dtype

    def read(self, row):
        """The image of a row: (*shape, 3) `dtype`, BGR. Raises UserError where it cannot be read."""
        image = self._whole(row)
        if self.augmented is not None:
            image = self.augmented(row, image)
        return image if self.turned is None else self.turned(row, image)

    def _whole(self, row):
        image = None if self.cache is None else self.cache.get(row)
        if image is None:
            image = read_input(self.paths[row], self.shape)
            if self.cache is not None:
                self.cache.put(row, image)
        return image


def images_of(pairs, shapes, caches=(None, None), panoramas=None, augmented=None):
    """Both views of a split: [Images of the references, Images of the queries].

    Args:
        pairs: datasets.dataset.Pairs.
        shapes: (height, width) of the network's inputs, satellite and ground.
        caches: of both views, or None each.
        panoramas: datasets.panorama_views.TurnedPanoramas of the queries, T times each; None: as they are.
        augmented: datasets.pair_augmentation.AugmentedPairs; None: as they are.
    """
    turns = 1 if panoramas is None else len(panoramas) // len(pairs)
    of_sat, of_grd = (None, None) if augmented is None else (augmented.sat, augmented.grd)
    return [
        Images(pairs.sat_paths, shapes[0], caches[0], augmented=of_sat),
        Images(pairs.grd_paths * turns, shapes[1], caches[1], panoramas, of_grd),
    ]


class Batch(typing.NamedTuple):
    """A batch of training pairs, or a replica's part of it; B slots.

    Attributes:
        sat, grd: (B, H, W, 3) uint8 each, BGR; panoramas of which a part is not seen are float32.
        rows: (B,) int64, the queries' rows in the split.
        utm: (B, 2) float64 positions in metres, or None.
        tiles: (B,) int64 rows of the references, or None where every query has its own.
        offset: () int64, the slot in the whole batch that a replica's part begins with; None before it is spread.
    """

    sat: np.ndarray
    grd: np.ndarray
    rows: np.ndarray
    utm: np.ndarray | None = None
    tiles: np.ndarray | None = None
    offset: object = None


def batches(pairs, order, batch_size, shapes, threads=None, caches=(None, None), panoramas=None, augmented=None):
    """Read batches of pairs in threads, a few batches ahead of their use.

    Args:
        pairs: datasets.dataset.Pairs.
        order: rows of the queries, in the order in which they are to come.
        batch_size: pairs in a batch; the last batch may have fewer.
        shapes, caches, panoramas, augmented: see `images_of`.
        threads: number of reading threads (default: as many as cores).

    Yields:
        Batch.

    Raises:
        UserError: an image cannot be read. A batch never holds an image that was not read.
    """
    order = np.asarray(order, np.int64)
    tiles = pairs.truth[order]
    sat, grd = images_of(pairs, shapes, caches, panoramas, augmented)
    own_tiles = pairs.one_to_one
    starts = itertools.count(0, batch_size)
    for images, start in zip(_read_ahead([(sat, tiles), (grd, order)], batch_size, threads), starts, strict=False):
        rows = order[start : start + batch_size]
        references = tiles[start : start + batch_size]
        utm = None if pairs.utm is None else pairs.utm[references]
        yield Batch(*images, rows, utm, None if own_tiles else references)


def image_batches(images, order, batch_size, threads=None):
    """Read batches of one view's images; arguments and errors as of `batches`.

    Yields:
        (B, *shape, 3), BGR, of the images' dtype.
    """
    for (batch,) in _read_ahead([(images, np.asarray(order, np.int64))], batch_size, threads):
        yield batch


def _read_ahead(views, batch_size, threads):
    """Yield a list of (B, H, W, 3) arrays a batch, one for each of `views`: (Images, rows)."""
    count = len(views[0][1])
    with concurrent.futures.ThreadPoolExecutor(threads or available_cores()) as pool:

        def read(arrays, slot, number):
            for array, (images, rows) in zip(arrays, views, strict=True):
                array[slot] = images.read(rows[number])

        def begin(start):
            end = min(start + batch_size, count)
            arrays = [np.empty((end - start, *images.shape, 3), images.dtype) for images, _ in views]
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
