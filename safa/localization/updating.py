"""Updates of an index whose tiles changed: rows of tiles that did not are kept, and files are exchanged at the very end."""

import collections
import concurrent.futures
import contextlib
import functools
import hashlib
import os
import shutil

import numpy as np

from safa.localization import index_files
from safa.localization.index_files import MANIFEST, UNFINISHED
from safa.localization.tile_images import DIGEST_BYTES, RECORD_BYTES, tile_digest
from safa.runtime.errors import UserError, shortened
from safa.runtime.files import file_state
from safa.runtime.progress import ProgressBar
from safa.runtime.worker_pool import available_cores


def row_signatures(source):
    """(N, DIGEST_BYTES) uint8 of a TileSource's tiles: digests of the names, sizes and times of each one's files."""

    @functools.cache
    def state(path):
        try:
            return file_state(path)
        except OSError:  # not local: /vsizip/..., a URL
            return path.encode(errors="surrogateescape")

    def digest(row):
        return hashlib.blake2b(b"\n".join(map(state, source.files(row))), digest_size=DIGEST_BYTES).digest()

    return np.frombuffer(b"".join(map(digest, range(len(source)))), np.uint8).reshape(-1, DIGEST_BYTES)


def kept_rows(folder, earlier, source, signatures):
    """The row of an index that shows each tile of a source, (N,) int64; and the number of tiles that no longer are in it.

    A tile is the same if its location and files are, or its location and pixels. Only those whose files differ are read. The
    row is -1 where a tile is new or changed, and the first one of several that show the same. UserError if no location is.
    """
    records = index_files.read_array(folder, index_files.RECORDS, (earlier.tiles, RECORD_BYTES), ("uint8",))
    places = np.array(index_files.read_array(folder, index_files.LOCATIONS, (earlier.tiles, 2), ("float64",)))
    rows, copies = {}, collections.Counter()  # rows by location, and digest of the files or of the pixels
    for row, (place, record) in enumerate(zip(places, records, strict=True)):
        place, content = place.tobytes(), record.tobytes()
        row = rows.setdefault((place, content[DIGEST_BYTES:-1]), row)
        rows[place] = rows[place, content[:DIGEST_BYTES]] = row
        copies[row] += 1

    if not any(place.tobytes() in rows for place in source.locations):  # another --region, for instance
        raise UserError(f"{shortened(folder)}: none of its places is among these; name another folder, or delete this one")

    def kept(row):
        place = source.locations[row].tobytes()
        found = rows.get((place, signatures[row].tobytes()))
        return rows.get((place, tile_digest(source.tile(row))), -1) if found is None and place in rows else found

    with concurrent.futures.ThreadPoolExecutor(available_cores()) as pool:
        bar = ProgressBar(pool.map(kept, range(len(source))), "tiles that are kept", len(source), "tiles")
        found = [-1 if row is None else row for row in bar]
    return np.array(found, np.int64), (copies - collections.Counter(found)).total()


def move_in(folder):
    """Exchange an index's files for those in UNFINISHED if these are whole, also where an earlier command was stopped at it."""
    unfinished = os.path.join(folder, UNFINISHED)
    if os.path.lexists(os.path.join(unfinished, MANIFEST)):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(folder, MANIFEST))
        for name in (*index_files.CHECKED, index_files.WEIGHTS, MANIFEST):  # the manifest last
            with contextlib.suppress(FileNotFoundError):
                os.replace(os.path.join(unfinished, name), os.path.join(folder, name))
        shutil.rmtree(unfinished)
