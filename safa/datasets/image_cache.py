"""Decoded images of the network's size, kept in memory or on disk: later epochs decode nothing."""

import concurrent.futures
import json
import os
import shutil

import numpy as np
from tqdm import tqdm

from safa.datasets.image_files import read_input
from safa.runtime.errors import UserError
from safa.runtime.files import (
    allocate,
    check_space,
    ordinary,
    partial_path,
    read_json,
    remove_abandoned,
    sources_digest,
    write_whole,
)
from safa.runtime.worker_pool import available_cores

VIEWS = "sat", "grd"
NOTE = "cache.json"  # beside the cached images: which source files they are of
SPARE = 0.9  # share of the free memory that a cache may take


class CachedView:
    """The decoded images of one view of a split.

    Args:
        images: (N, H, W, 3) uint8 array.
        known: (N,) bool, which of them it holds; None: all.
    """

    def __init__(self, images, known=None):
        self._images, self._known = images, known

    def get(self, row):
        """An image, or None where it is not known yet."""
        return self._images[row] if self._known is None or self._known[row] else None

    def put(self, row, image):
        """Keep an image."""
        self._images[row] = image
        self._known[row] = True


def bytes_needed(pairs, shapes):
    """Bytes of all images of `pairs`, uint8, with the (height, width) of each view in `shapes`."""
    return sum(count * 3 * height * width for count, (height, width) in zip(_counts(pairs), shapes, strict=True))


def make_caches(kind, splits, shapes, say):
    """Caches for `input_data.batches`.

    Args:
        kind: "none", "memory" or "disk".
        splits: datasets.dataset.Pairs each.
        shapes: (height, width) of the satellite and the ground view at the network's input.
        say: function that reports a line.

    Returns:
        For each split both views' CachedView, or (None, None).

    Raises:
        UserError: too little memory or disk space, or an image cannot be read.
    """
    if kind == "memory":
        needed = [bytes_needed(pairs, shapes) for pairs in splits]
        return [memory_cache(pairs, shapes, say, sum(needed[:number])) for number, pairs in enumerate(splits)]
    return [disk_cache(pairs, shapes, say) if kind == "disk" else (None, None) for pairs in splits]


def memory_cache(pairs, shapes, say, promised=0):
    """A cache in memory that keeps every image that was read once; arguments and errors as of `make_caches`.

    `promised`: bytes of the free memory that other caches will take.
    """
    needed, free = bytes_needed(pairs, shapes), _free_memory()
    say(f"{pairs.name}: {needed / 1e9:.3g} GB of decoded images are kept in memory")
    if free is not None and needed + promised > SPARE * free:
        raise UserError(
            f"--cache memory: {pairs.name} needs {needed / 1e9:.3g} GB and {free / 1e9:.3g} GB are free; use --cache disk or "
            "none"
        )
    sizes = zip(_counts(pairs), shapes, strict=True)
    return [CachedView(np.empty((count, *shape, 3), np.uint8), np.zeros(count, bool)) for count, shape in sizes]


def disk_cache(pairs, shapes, say):
    """A cache of two files that are mapped into memory; arguments and errors as of `make_caches`.

    It is made before the first epoch, and again when a source has changed. An earlier one stays until then.
    """
    cache = _DiskCache(pairs, shapes)
    parent = os.path.dirname(cache.folder)
    os.makedirs(parent, exist_ok=True)
    remove_abandoned(parent)
    size = f"{cache.folder}: {bytes_needed(pairs, shapes) / 1e9:.3g} GB of decoded images"
    images = cache.load()
    if images is not None:
        say(f"{size}, made before from the same files")
    while images is None:  # again if another process is just replacing it
        say(f"{size} are written")
        cache.make()
        images = cache.load()
    return [CachedView(array) for array in images]


class _DiskCache:
    """The files of a disk cache, below the dataset's prepared files."""

    def __init__(self, pairs, shapes):
        self._pairs = pairs
        self._sizes = [(count, *shape, 3) for count, shape in zip(_counts(pairs), shapes, strict=True)]
        self._shapes, self._bytes = shapes, bytes_needed(pairs, shapes)
        self._identity = {"pairs": len(pairs), "sources": sources_digest([*pairs.sat_paths, *pairs.grd_paths])}
        height_width = "_".join(f"{height}x{width}" for height, width in shapes)
        self.folder = os.path.join(pairs.dataset.cache_dir, f"{pairs.split}_{height_width}")

    def load(self):
        """The images, or None where they are not of these sources, or not whole."""
        if _noted(self.folder) != self._identity:
            return None
        images = []
        for name in VIEWS:
            path = os.path.join(self.folder, f"{name}.npy")
            try:
                open(path, "rb", opener=ordinary).close()
                images.append(np.load(path, mmap_mode="r"))
            except Exception:  # whatever broken bytes lead NumPy to: the cache is made again
                return None
        whole = all(array.shape == size and array.dtype == np.uint8 for array, size in zip(images, self._sizes, strict=True))
        return images if whole else None

    def make(self):
        """Decode all images into a folder of its own, which then takes the cache's place."""
        remedy = "free some space, use another --prepared_dir, or leave out --cache disk"
        check_space(os.path.dirname(self.folder), self._bytes, "decoded images", remedy)
        partial = partial_path(self.folder)
        os.makedirs(partial)
        try:
            self._decode_into(partial)
            write_whole(os.path.join(partial, NOTE), json.dumps(self._identity).encode())
            if self.load() is not None:
                return  # another process has just made the same
            shutil.rmtree(self.folder, ignore_errors=True)
            try:
                os.rename(partial, self.folder)
            except OSError:
                if _noted(self.folder) != self._identity:  # else another process has just made the same
                    raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _decode_into(self, folder):
        arrays = [
            np.lib.format.open_memmap(os.path.join(folder, f"{name}.npy"), "w+", np.uint8, size)
            for name, size in zip(VIEWS, self._sizes, strict=True)
        ]
        for array in arrays:  # a mapped file on a full disk would end the process by a signal
            allocate(array.filename)
        views = zip(arrays, (self._pairs.sat_paths, self._pairs.grd_paths), self._shapes, strict=True)
        todo = [(array, row, path, shape) for array, paths, shape in views for row, path in enumerate(paths)]

        def read(array, row, path, shape):
            array[row] = read_input(path, shape)

        with concurrent.futures.ThreadPoolExecutor(available_cores()) as pool:
            try:
                decoded = pool.map(read, *zip(*todo, strict=True))
                title = f"decoding {self._pairs.name}"
                for _ in tqdm(decoded, title, total=len(todo), unit="image", leave=False, disable=None):
                    pass
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        for array in arrays:
            array.flush()


def _counts(pairs):
    return len(pairs.sat_paths), len(pairs.grd_paths)


def _noted(folder):
    try:
        return read_json(os.path.join(folder, NOTE), dict, "")
    except (OSError, ValueError, UserError):
        return None


def _free_memory():
    """Bytes of memory that this process can take, also inside a container or a batch job; None where nobody says."""
    free = []
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            free += [int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable:")]
    except OSError:
        pass
    for limit, used in (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")):
        try:
            numbers = [open(os.path.join("/sys/fs/cgroup", name), encoding="ascii").read() for name in (limit, used)]
            free.append(int(numbers[0]) - int(numbers[1]))
        except (OSError, ValueError):  # no such limit, or "max"
            pass
    return min(free, default=None)
