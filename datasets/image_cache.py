"""Decoded images of the network's size, kept in memory or on disk, so that later epochs decode nothing."""

from runtime.errors import UserError
from runtime.files import ordinary, partial_path, remove_abandoned, write_whole
from runtime.worker_pool import available_cores

import concurrent.futures
import hashlib
import itertools
import json
import os
import shutil

import numpy as np
from tqdm import tqdm

from datasets.image_files import read_input
from datasets.preparation import NOTE_BYTES

VIEWS = "sat", "grd"
NOTE = "cache.json"  # beside the cached images: which source files they are of
SPARE = 0.9  # share of the free memory that a cache may take


def bytes_needed(pairs, shapes):
    """Bytes of all images of `pairs`, uint8, with the (height, width) of each view in `shapes`."""
    return len(pairs) * sum(3 * height * width for height, width in shapes)


def make_caches(kind, splits, shapes, folder):
    """Caches for `input_data.batches`, one for each split.

    Args:
        kind: "none", "memory" or "disk".
        splits: dataset.Pairs each.
        shapes: (height, width) of the satellite and the ground view at the network's input.
        folder: for "disk".

    Returns:
        List of None, MemoryCache or DiskCache.
    """
    if kind == "memory":
        return [
            MemoryCache(pairs, shapes, sum(bytes_needed(each, shapes) for each in splits[:number]))
            for number, pairs in enumerate(splits)
        ]
    return [DiskCache(pairs, shapes, folder) if kind == "disk" else None for pairs in splits]


class MemoryCache:
    """Keeps every image that was read once.

    Args:
        pairs: dataset.Pairs.
        shapes: (height, width) of the satellite and the ground view at the network's input.
        promised: bytes of the free memory that other caches will take.

    Raises:
        UserError: there is too little memory.
    """

    def __init__(self, pairs, shapes, promised=0):
        needed, free = bytes_needed(pairs, shapes), _free_memory()
        print(f"{pairs.dataset} {pairs.split}: {needed / 1e9:.3g} GB of decoded images are kept in memory", flush=True)
        if free is not None and needed + promised > SPARE * free:
            raise UserError(
                f"--cache memory: {pairs.dataset} {pairs.split} needs {needed / 1e9:.3g} GB and "
                f"{free / 1e9:.3g} GB are free; use --cache disk or none"
            )
        self._images = [np.empty((len(pairs), *shape, 3), np.uint8) for shape in shapes]
        self._known = np.zeros((len(shapes), len(pairs)), bool)

    def get(self, view, row):
        """An image, or None if it is not known yet; `view` is 0 for satellite, 1 for ground."""
        return self._images[view][row] if self._known[view, row] else None

    def put(self, view, row, image):
        """Keep an image."""
        self._images[view][row] = image
        self._known[view, row] = True


class DiskCache:
    """All images in two files that are mapped into memory; made before the first epoch, and anew when a source changed.

    Args:
        pairs: dataset.Pairs.
        shapes: (height, width) of the satellite and the ground view at the network's input.
        folder: for the files, below the prepared files.

    Raises:
        UserError: there is too little space, or an image cannot be read. An earlier cache stays as it was.
    """

    def __init__(self, pairs, shapes, folder):
        height_width = "_".join(f"{height}x{width}" for height, width in shapes)
        self.folder = os.path.join(folder, f"{pairs.split}_{height_width}")
        os.makedirs(folder, exist_ok=True)
        remove_abandoned(folder)
        identity = {"pairs": len(pairs), "sources": _sources_digest(pairs)}
        self._images = self._load(shapes, identity)
        if self._images is not None:
            print(
                f"{self.folder}: {bytes_needed(pairs, shapes) / 1e9:.3g} GB of decoded images, made before from the same files",
                flush=True,
            )
        else:
            while self._images is None:  # again if another process is just replacing it
                self._make(pairs, shapes, identity)
                self._images = self._load(shapes, identity)

    def get(self, view, row):
        """An image; `view` is 0 for satellite, 1 for ground."""
        return self._images[view][row]

    def _load(self, shapes, identity):
        """The images, or None where they are not those of `identity`, or not whole."""
        if _noted(self.folder) != identity:
            return None
        images = []
        for name in VIEWS:
            path = os.path.join(self.folder, f"{name}.npy")
            try:
                open(path, "rb", opener=ordinary).close()
                images.append(np.load(path, mmap_mode="r"))
            except Exception:  # whatever broken bytes lead NumPy to: the cache is made again
                return None
        whole = all(
            array.shape == (identity["pairs"], *shape, 3) and array.dtype == np.uint8
            for array, shape in zip(images, shapes, strict=True)
        )
        return images if whole else None

    def _make(self, pairs, shapes, identity):
        parent = os.path.dirname(self.folder)
        needed, free = bytes_needed(pairs, shapes), shutil.disk_usage(parent).free
        print(f"{self.folder}: {needed / 1e9:.3g} GB of decoded images are written", flush=True)
        if free < needed:
            raise UserError(
                f"{parent}: the cache needs {needed / 1e9:.3g} GB and {free / 1e9:.3g} GB are free; free "
                "some space, use another --prepared_dir, or leave out --cache disk"
            )
        partial = partial_path(self.folder)
        os.makedirs(partial)
        try:
            images = [
                np.lib.format.open_memmap(os.path.join(partial, f"{name}.npy"), "w+", np.uint8, (len(pairs), *shape, 3))
                for name, shape in zip(VIEWS, shapes, strict=True)
            ]
            for array in images:  # a mapped file on a full disk would end the process by a signal
                _allocate(array.filename)

            def read(row):
                paths = pairs.sat_paths[row], pairs.grd_paths[row]
                for array, path, shape in zip(images, paths, shapes, strict=True):
                    array[row] = read_input(path, shape)

            with concurrent.futures.ThreadPoolExecutor(available_cores()) as pool:
                try:
                    for _ in tqdm(
                        pool.map(read, range(len(pairs))),
                        f"decoding {pairs.dataset} {pairs.split}",
                        total=len(pairs),
                        unit="pair",
                        leave=False,
                        disable=None,
                    ):
                        pass
                except BaseException:
                    pool.shutdown(cancel_futures=True)
                    raise
            for array in images:
                array.flush()
            write_whole(os.path.join(partial, NOTE), json.dumps(identity).encode())
            if self._load(shapes, identity) is not None:
                return  # another process has just made the same
            shutil.rmtree(self.folder, ignore_errors=True)
            try:
                os.rename(partial, self.folder)
            except OSError:
                if _noted(self.folder) != identity:  # else another process has just made the same
                    raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _allocate(path):
    """Take the space of a new mapped file at once, so that a full disk is an error here."""
    if hasattr(os, "posix_fallocate"):
        with open(path, "r+b") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, os.path.getsize(path))
            except OSError as error:
                error.filename = path
                raise


def _sources_digest(pairs):
    """What the source files are: paths, sizes and times of change."""
    digest = hashlib.sha256()
    for path in itertools.chain(pairs.sat_paths, pairs.grd_paths):
        status = os.stat(path)
        digest.update(f"{os.path.abspath(path)}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _noted(folder):
    try:
        with open(os.path.join(folder, NOTE), "rb", opener=ordinary) as file:
            return json.loads(file.read(NOTE_BYTES))
    except (OSError, ValueError, RecursionError, UserError):
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
