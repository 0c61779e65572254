"""Builds an index: describes tiles, resumable, then shortens and sorts descriptors where that is asked for."""

import dataclasses
import hashlib
import json
import os
import time

import numpy as np
from scipy.spatial import cKDTree
from tqdm import tqdm

from safa.localization import index_files
from safa.localization.approximate import ApproximateSearch, write_approximate
from safa.localization.coordinates import LocalFrame
from safa.localization.index_files import APPROXIMATE, DESCRIPTORS, DTYPES, IndexNote, read_array
from safa.localization.projection import fit_projection
from safa.localization.similarities import closest, nearest
from safa.localization.tile_images import THUMBNAIL_BYTES, TileImages
from safa.runtime.command_line import Checked, at_least, setting
from safa.runtime.errors import UserError, shortened
from safa.runtime.files import allocate, check_space, partial_path, read_json, remove_abandoned, write_whole
from safa.runtime.folder_lock import open_lock

BUILDING = "building.json"  # what a build has finished; gone when the index is whole
FULL = "full.npy"  # the network's descriptors, while they are projected
LOCK = ".lock"
KEEP_SECONDS = 20.0  # between notes of what is finished: the most that a killed build computes again
RECALL_SAMPLE = 500  # tiles that the recall of a search is measured with: good to two points
LEAST_TILES = 1000  # for an approximate search: fewer are compared in a millisecond
OTHER = "other tiles, another network or other settings"
REMEDY = "free some space, use --dtype float16 or --no_thumbnails, or name another folder"


@dataclasses.dataclass(frozen=True)
class IndexConfig(Checked):
    """How the descriptors of an index are kept."""

    dtype: str = setting(
        "float16", "of the descriptors on disk; float16 halves them and moves similarities by up to 0.0005", choices=DTYPES
    )
    pca: int | None = setting(
        None,
        "keep this many values of a descriptor, in the directions that matter most for these tiles (default: all)",
        at_least(int, 1),
        metavar="VALUES",
    )
    approximate: bool = setting(
        False,
        "also sort the tiles for an approximate search, whose candidates are compared exactly (needs faiss-cpu); worth it for "
        "millions of tiles",
    )
    no_thumbnails: bool = setting(False, "keep no small picture of each tile (6 kB) for pages")


def build_index(folder, source, described, config, extractor, write_weights, batch_size):
    """Build an index, or the rest of one that was stopped; the files do not depend on stops.

    Args:
        folder: of the index.
        source: tile_source.TileSource.
        described: index_files.Described.
        config: IndexConfig.
        extractor: retrieval.descriptors.DescriptorExtractor of the network.
        write_weights: function that writes the network's weights to a path.
        batch_size: tiles at a time.

    Returns:
        IndexNote, and whether the index was finished before.

    Raises:
        UserError: the folder holds something else, another build writes there, or a tile cannot be read.
    """
    dimension = extractor.dimension
    if config.pca is not None and not config.pca < min(dimension, len(source)):
        raise UserError(
            f"--pca {config.pca}: not less than the {dimension:,} values of a descriptor and the {len(source):,} tiles; use "
            "fewer values, or leave it out"
        )
    if config.approximate and len(source) < LEAST_TILES:
        raise UserError(f"--approximate: {len(source):,} tiles are compared exactly in a millisecond; leave it out")
    os.makedirs(folder, exist_ok=True)
    with open_lock(os.path.join(folder, LOCK)) as lock:
        if not lock.take_alone():
            raise UserError(f"{shortened(folder)}: another build is writing there; wait for it, or name another folder")
        identity = _identity(source, described, config)
        if _is_finished(folder, identity):
            _clean(folder)
            return index_files.read_note(folder), True
        rows = _TileRows(folder, source, dimension, config, identity)
        _write_places(folder, source)
        write_weights(os.path.join(folder, index_files.WEIGHTS))
        thumbnails = rows.open_thumbnails() if not config.no_thumbnails else None
        images = TileImages(source, described.network, described.stretch, thumbnails)
        extractor.fill(rows, "sat", images, batch_size, os.path.basename(os.path.abspath(folder)))
        pca_recall = _project(folder, rows.rows, config) if config.pca is not None else None
        approximate_recall = _sort(folder, len(source), config) if config.approximate else None
        note = IndexNote(
            **{field.name: getattr(described, field.name) for field in dataclasses.fields(described)},
            tiles=len(source),
            dimension=config.pca or dimension,
            source=source.record,
            identity=identity,
            spacing=_spacing(source.positions),
            pca_recall=pca_recall,
            approximate_recall=approximate_recall,
        )
        write_whole(os.path.join(folder, index_files.NOTE), note.as_json())
        _clean(folder)
        return note, False


def _identity(source, described, config):
    """Digest of what an index depends on, but for the content of the tiles' files."""
    digest = hashlib.sha256(json.dumps([dataclasses.asdict(described), dataclasses.asdict(config), source.record]).encode())
    digest.update("\n".join(source.names).encode(errors="surrogateescape"))
    digest.update(np.ascontiguousarray(source.positions))
    return digest.hexdigest()


def _is_finished(folder, identity):
    """Whether a folder holds this index, whole; an error where it holds anything else than a part of it."""
    names = set(os.listdir(folder)) - {LOCK}
    if index_files.NOTE in names:
        if index_files.read_note(folder).identity != identity:
            raise UserError(f"{shortened(folder)}: holds an index of {OTHER}; name another folder, or delete this one")
        return True
    if BUILDING not in names and names and not all(name.startswith(".") for name in names):
        raise UserError(f"{shortened(folder)}: holds files that are not of an index; name a new folder")
    return False


def _write_places(folder, source):
    names = json.dumps([name.encode(errors="replace").decode() for name in source.names], ensure_ascii=False)
    write_whole(os.path.join(folder, index_files.NAMES), names.encode())
    path = os.path.join(folder, index_files.POSITIONS)
    partial = partial_path(path)
    with open(partial, "wb") as file:
        np.save(file, np.asarray(source.positions, np.float64))
    os.replace(partial, path)


class _TileRows:
    """Rows of descriptors on disk, as `DescriptorExtractor.images` fills them, and a note of how many are finished.

    A tile's file that was changed after it was described makes all of them computed again; one that could not be read, and was
    replaced, does not.

    Attributes:
        done: number of rows that were finished before.
        rows: (N, D) of the index's dtype, mapped into memory; None until the first are there.
        milliseconds: that computing took an image, or None.
    """

    def __init__(self, folder, source, dimension, config, identity):
        self._folder, self._identity = folder, identity
        self._note = os.path.join(folder, BUILDING)
        self._array = os.path.join(folder, FULL if config.pca is not None else DESCRIPTORS)
        self._shape, self._dtype, self._paths = (len(source), dimension), np.dtype(config.dtype), source.paths
        self._digest, self._digested = hashlib.sha256(), 0
        self.done, self.rows, self.milliseconds = 0, None, None
        remove_abandoned(folder)
        self._load()
        if self.rows is None:
            thumbnails = len(source) * THUMBNAIL_BYTES * (not config.no_thumbnails)
            projected = len(source) * (config.pca or 0) * self._dtype.itemsize
            needed = self._shape[0] * self._shape[1] * self._dtype.itemsize + thumbnails + projected
            check_space(folder, needed, "descriptors", REMEDY)
            self._digest, self._digested = hashlib.sha256(), 0
            self.keep(0, None)
        self._kept = time.monotonic()

    def _load(self):
        """Take over what a stopped build left. Raises UserError where that was a build of something else."""
        try:
            note = read_json(self._note, dict, "")
            identity, done, files = note["identity"], note["done"], note["files"]
            if type(done) is not int or not 0 <= done <= self._shape[0]:
                raise ValueError
        except (
            FileNotFoundError,
            UserError,
            ValueError,
            KeyError,
            TypeError,
        ):  # without its note, a part of a build is worth nothing
            return
        if identity != self._identity and done:
            raise UserError(
                f"{shortened(self._folder)}: holds {done:,} tiles of a build with {OTHER}; run that command again to go on "
                "with it, name another folder, or delete this one"
            )
        try:
            rows = np.load(self._array, mmap_mode="r")  # refuses a file that was cut off; "r+" fills it up with zeros
            if done and rows.shape == self._shape and rows.dtype == self._dtype and self._digest_to(done) == files:
                self.done, self.rows = done, np.load(self._array, mmap_mode="r+")
        except (OSError, ValueError, EOFError):
            return

    def _digest_to(self, count):
        """Digest of the first files' sizes and times of change; each is asked once."""
        for path in self._paths[self._digested : count]:
            status = os.stat(path)
            self._digest.update(f"{status.st_size} {status.st_mtime_ns}\n".encode())
        self._digested = count
        return self._digest.hexdigest()

    def open_thumbnails(self):
        """(N, THUMBNAIL_BYTES) uint8, mapped into memory."""
        path = os.path.join(self._folder, index_files.THUMBNAILS)
        shape = self._shape[0], THUMBNAIL_BYTES
        if self.done:
            read_array(self._folder, index_files.THUMBNAILS, shape, ("uint8",))
            return np.load(path, mmap_mode="r+")
        thumbnails = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
        allocate(path)
        return thumbnails

    def begin(self):
        """Make the file, unless it is there."""
        if self.rows is not None:
            return
        self.rows = np.lib.format.open_memmap(self._array, "w+", self._dtype, self._shape)
        allocate(self._array)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.keep(self.done, self.milliseconds)

    def write(self, start, rows, milliseconds=None):
        """Write the rows from `start` on."""
        self.begin()
        self.rows[start : start + len(rows)] = rows
        self.done = start + len(rows)
        if time.monotonic() - self._kept > KEEP_SECONDS:
            self.keep(self.done, milliseconds)

    def keep(self, done, milliseconds):
        """Note that the first `done` rows are finished, after they are on disk."""
        if self.rows is not None:
            self.rows.flush()
        self.milliseconds, self._kept = milliseconds, time.monotonic()
        note = {"identity": self._identity, "done": done, "files": self._digest_to(done)}
        write_whole(self._note, json.dumps(note).encode())


def _project(folder, full, config):
    """Write the projection and the projected descriptors; returns their recall."""
    projection = fit_projection(full, config.pca)
    path = os.path.join(folder, index_files.PROJECTION)
    with open(partial_path(path), "wb") as file:
        np.save(file, projection.directions)
    os.replace(partial_path(path), path)
    target = os.path.join(folder, DESCRIPTORS)
    partial = partial_path(target)
    kept = np.lib.format.open_memmap(partial, "w+", full.dtype, (len(full), config.pca))
    step = 4096
    for start in tqdm(range(0, len(full), step), desc="projection", unit="block", leave=False, disable=None):
        kept[start : start + step] = projection(full[start : start + step])
    kept.flush()
    os.replace(partial, target)

    def search(rows, depth):
        return nearest(kept, np.asarray(kept[rows], np.float32), depth)[0]

    return _recall(full, search)


def _sort(folder, count, config):
    """Write the file of the approximate search; returns its recall."""
    descriptors = np.load(os.path.join(folder, DESCRIPTORS), mmap_mode="r")
    path = os.path.join(folder, APPROXIMATE)
    write_approximate(path, descriptors)
    approximate = ApproximateSearch(path, descriptors)

    def search(rows, depth):
        found, _ = approximate.similarities(np.asarray(descriptors[rows, None], np.float32))
        return closest(found, depth)[0]

    full = np.load(os.path.join(folder, FULL), mmap_mode="r") if config.pca is not None else descriptors
    return _recall(full, search)


def _recall(full, search):
    """How often a search finds a tile's nearest other tile, by the full descriptors, among the 1 and 10 first others.

    Args:
        full: (N, D) descriptors of the network.
        search: function of rows and a number to the rows that it finds for each of them, the closest first.

    Returns:
        {"1": share, "10": share} of RECALL_SAMPLE tiles.
    """
    rows = np.sort(np.random.default_rng(0).permutation(len(full))[:RECALL_SAMPLE])
    depth = min(11, len(full))
    truth = _others(rows, nearest(full, np.asarray(full[rows], np.float32), min(2, len(full)))[0])[:, 0]
    found = _others(rows, search(rows, depth))
    return {str(k): float(np.mean((found[:, :k] == truth[:, None]).any(axis=1))) for k in (1, 10)}


def _others(rows, found):
    """What was found for each row but itself, (n, K - 1); the last one goes where a row did not find itself."""
    return np.array(
        [[other for other in own if other != row][: found.shape[1] - 1] for row, own in zip(rows, found, strict=True)]
    )


def _spacing(positions):
    """Median metres from a place to its nearest other one; None of a single place."""
    if len(positions) < 2:
        return None
    metres = LocalFrame.around(positions).metres(positions)
    return round(float(np.median(cKDTree(metres).query(metres, 2)[0][:, 1])), 3)


def _clean(folder):
    """Remove what a finished index does not need."""
    for name in BUILDING, FULL:
        if os.path.exists(os.path.join(folder, name)):
            os.unlink(os.path.join(folder, name))
