"""Batches of images as the network takes them, read ahead in threads (paper, section 4)."""

from runtime.worker_pool import available_cores

import collections
import concurrent.futures
import itertools

import numpy as np

from datasets.image_files import read_input


def batches(pairs, order, batch_size, sat_shape, grd_shape, threads=None, prefetch=2, cache=None):
    """Read batches of images in threads, a few batches ahead of their use.

    Args:
        pairs: Pairs.
        order: rows of `pairs`, in the order in which they are to come.
        batch_size: pairs in a batch; the last batch may have fewer.
        sat_shape, grd_shape: (height, width) of the network's inputs; images of another size are resized by area.
        threads: number of reading threads (default: as many as cores).
        prefetch: batches read ahead.
        cache: image_cache.MemoryCache or DiskCache of these pairs, or None.

    Yields:
        sat: (B, *sat_shape, 3) uint8, BGR.
        grd: (B, *grd_shape, 3) uint8, BGR.
        rows: (B,) int64, the rows of `pairs`.

    Raises:
        UserError: an image cannot be read. A batch never holds an image that was not read.
    """
    views = (pairs.sat_paths, sat_shape), (pairs.grd_paths, grd_shape)

    def read_pair(images, place, row):
        for view, (paths, shape) in enumerate(views):
            image = None if cache is None else cache.get(view, row)
            if image is None:
                image = read_input(paths[row], shape)
                if cache is not None:
                    cache.put(view, row, image)
            images[view][place] = image

    order = np.asarray(order, np.int64)
    with concurrent.futures.ThreadPoolExecutor(threads or available_cores()) as pool:

        def begin(rows):
            images = [np.empty((len(rows), *shape, 3), np.uint8) for _, shape in views]
            return images, rows, [pool.submit(read_pair, images, place, row) for place, row in enumerate(rows)]

        starts = iter(range(0, len(order), batch_size))
        begun = collections.deque()
        try:
            while True:
                for start in itertools.islice(starts, 1 + prefetch - len(begun)):
                    begun.append(begin(order[start : start + batch_size]))
                if not begun:
                    return
                (sat, grd), rows, reads = begun.popleft()
                for read in reads:
                    read.result()
                yield sat, grd, rows
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def epoch_order(count, epoch, seed):
    """Shuffled rows of one epoch: (count,) int64, the same for the same seed and epoch."""
    return np.random.default_rng([seed, epoch]).permutation(count)
