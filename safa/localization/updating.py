"""Updates of an index whose tiles changed: rows of tiles that did not are kept, and files are exchanged at the very end."""

import concurrent.futures
import contextlib
import functools
import hashlib
import os
import shutil

import numpy as np
from tqdm import tqdm

from safa.localization import index_files
from safa.localization.index_files import DESCRIPTORS, PROJECTION, RECORDS, THUMBNAILS, read_array
from safa.localization.tile_images import DIGEST_BYTES, RECORD_BYTES, tile_digest
from safa.runtime.worker_pool import available_cores

ADDED, MERGED = "added", "merged"  # folders in an index: the descriptors of new tiles; the files of the updated index
ROWS_AT_A_TIME = 4096


def row_signatures(source):
    """(N, DIGEST_BYTES) uint8 of a TileSource's tiles: digests of the names, sizes and times of each one's files."""

    @functools.cache
    def signature(path):
        try:
            status = os.stat(path)
        except OSError:  # not local: /vsizip/..., a URL
            return path
        return f"{os.path.abspath(path)}\0{status.st_size}\0{status.st_mtime_ns}"

    def digest(row):
        text = "\n".join(signature(path) for path in source.files(row))
        return hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=DIGEST_BYTES).digest()

    return np.frombuffer(b"".join(map(digest, range(len(source)))), np.uint8).reshape(-1, DIGEST_BYTES)


def kept_rows(folder, earlier, source, signatures):
    """The row of an index that shows each tile of a source, (N,) int64; -1 where a tile is new or changed.

    A tile is the same if its location and files are, or its location and pixels. Only those whose files differ are read.
    """
    records = np.asarray(read_array(folder, RECORDS, (earlier.tiles, RECORD_BYTES), ("uint8",)))
    places = [place.tobytes() for place in index_files.read_locations(folder, earlier.tiles)]
    of_files, of_pixels = {}, {}
    for row, (place, record) in enumerate(zip(places, records, strict=True)):
        of_files[place, record[:DIGEST_BYTES].tobytes()] = of_pixels[place, record[DIGEST_BYTES:-1].tobytes()] = row
    known, wanted = set(places), [place.tobytes() for place in np.asarray(source.locations, np.float64)]

    def kept(row):
        found = of_files.get((wanted[row], signatures[row].tobytes()))
        if found is None and wanted[row] in known:
            found = of_pixels.get((wanted[row], tile_digest(source.tile(row))))
        return -1 if found is None else found

    with concurrent.futures.ThreadPoolExecutor(available_cores()) as pool:
        rows = tqdm(pool.map(kept, range(len(source))), "tiles that are kept", len(source), leave=False, disable=None)
        return np.array(list(rows), np.int64)


def merge(folder, earlier, source, kept, signatures):
    """Write an updated index's arrays to MERGED, from rows that are kept, (N,) of `kept_rows`, and those in ADDED.

    Returns:
        The folder, and its (N, K) descriptors.
    """
    merged, added = os.path.join(folder, MERGED), os.path.join(folder, ADDED)
    shutil.rmtree(merged, ignore_errors=True)
    os.mkdir(merged)
    new, directions = kept < 0, None
    if earlier.pca_recall is not None:
        shutil.copy(os.path.join(folder, PROJECTION), merged)
        directions = read_array(folder, PROJECTION, (earlier.values, earlier.kept_values), ("float32",))
    number = np.where(new, np.cumsum(new) - 1, kept)
    for name in [name for name in (DESCRIPTORS, RECORDS, THUMBNAILS) if name in earlier.files]:
        old = np.load(os.path.join(folder, name), mmap_mode="r")
        fresh = np.load(os.path.join(added, name), mmap_mode="r") if new.any() else old[:0]
        array = index_files.new_array(merged, name, (len(kept), old.shape[1]), old.dtype)
        for rows in np.array_split(np.arange(len(kept)), -(-len(kept) // ROWS_AT_A_TIME)):
            ours, theirs = rows[~new[rows]], rows[new[rows]]
            values = fresh[number[theirs]]
            if name == DESCRIPTORS and directions is not None:
                values = values.astype(np.float32) @ directions
            array[ours], array[theirs] = old[number[ours]], values
        if name == RECORDS:
            array[:, :DIGEST_BYTES] = signatures
        array.flush()
    index_files.write_tile_names(merged, source)
    return merged, np.load(os.path.join(merged, DESCRIPTORS), mmap_mode="r")


def move_in(folder):
    """Exchange an index's files for those in MERGED if these are whole, also where an earlier command was stopped at it."""
    merged, manifest = os.path.join(folder, MERGED), index_files.MANIFEST
    if os.path.lexists(os.path.join(merged, manifest)):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(folder, manifest))
        for name in sorted(os.listdir(merged), key=lambda name: name == manifest):  # the manifest last
            os.replace(os.path.join(merged, name), os.path.join(folder, name))
