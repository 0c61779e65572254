"""Builds an index: computes the tiles' descriptors, resumable, then shortens and sorts them if that is asked for."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import os

import numpy as np
from scipy.spatial import cKDTree

from safa.localization import index_files
from safa.localization.coordinates import LocalFrame
from safa.localization.index_files import DESCRIPTORS, DTYPES, DescriptorRecipe, IndexManifest, read_array, read_index_manifest
from safa.localization.tile_images import THUMBNAIL_BYTES, TileImages
from safa.localization.tile_search import ApproximateSearch, closest, fit_projection, similarities, write_approximate
from safa.localization.tile_source import TileSource
from safa.retrieval.resumable_rows import ResumableRows, read_rows_manifest
from safa.runtime.command_line import Checked, at_least, setting
from safa.runtime.errors import UserError, shortened
from safa.runtime.files import allocate, check_space, locked, open_whole, write_json
from safa.runtime.progress import ProgressBar

ROWS = DESCRIPTORS.removesuffix(".npy")
FULL = "full"  # the network's descriptors while they are projected, FULL.npy
OWN_FILES = {f"{name}.{ending}" for name in (ROWS, FULL) for ending in ("npy", "json")}  # of a build that was stopped
RECALL_SAMPLE = 500  # tiles that the recall of a search is measured with: good to two points
PROJECTED_ROWS = 4096  # at a time
RESULT_BYTES = 2**28  # of similarities that are held at a time
LEAST_TILES = 1000  # for an approximate search: fewer are compared in a millisecond
OTHER = "other tiles, another network or other settings"
REMEDY = "free some space, use --dtype float16 or --no_thumbnails, or name another folder"


@dataclasses.dataclass(frozen=True)
class IndexConfig(Checked):
    """How the descriptors of an index are kept."""

    dtype: str = setting(
        "float16", "type of the descriptors on disk; float16 halves them and moves similarities by up to 0.0005", choices=DTYPES
    )
    pca: int | None = setting(
        None,
        "values kept of a descriptor, in the directions that matter most for these tiles (default: all)",
        at_least(int, 1),
        metavar="VALUES",
    )
    approximate: bool = setting(
        False,
        "also sort the tiles for an approximate search, whose candidates are compared exactly (needs faiss-cpu); worth it for "
        "millions of tiles",
    )
    no_thumbnails: bool = setting(False, "leave out the small picture of each tile (6 kB), which pages show")


def build_index(folder: str, source: TileSource, recipe: DescriptorRecipe, config, network, distribution, batch_size):
    """Build an index, or the rest of one that was stopped; the files do not depend on stops.

    Args:
        config: IndexConfig.
        network: spatial_net.Network, with its weights.
        distribution: runtime.distribution.Distribution that the network was made for.
        batch_size: tiles at a time.

    Returns:
        IndexManifest, and whether the index was finished before.

    Raises:
        UserError: the folder holds something else, another build writes there, or a tile cannot be read.
    """
    from safa.retrieval.descriptors import DescriptorExtractor
    from safa.training.weights import write_keras_weights

    values = network.sat.dimension
    if config.pca is not None and not config.pca < min(values, len(source)):
        raise UserError(
            f"--pca {config.pca}: not less than the {values:,} values of a descriptor and the {len(source):,} tiles; use "
            "fewer values, or leave it out"
        )
    if config.approximate and len(source) < LEAST_TILES:
        raise UserError(f"--approximate: {len(source):,} tiles are compared exactly in a millisecond; leave it out")
    os.makedirs(folder, exist_ok=True)
    busy = f"{shortened(folder)}: another build is writing there; wait for it, or name another folder"
    with locked(os.path.join(folder, ".lock"), busy):
        identity = _identity(source, recipe, config)
        was_finished = _is_finished(folder, identity)
        if not was_finished:
            shape, path = (len(source), values), os.path.join(folder, ROWS if config.pca is None else FULL)
            rows = ResumableRows(shape, config.dtype, path, {"index": identity}, source.paths, REMEDY)
            names = [name.encode(errors="replace").decode() for name in source.names]
            write_json(os.path.join(folder, index_files.NAMES), names)
            _save(os.path.join(folder, index_files.LOCATIONS), np.asarray(source.locations, np.float64))
            write_keras_weights(os.path.join(folder, index_files.WEIGHTS), network)
            thumbnails = None if config.no_thumbnails else _thumbnails(folder, rows)
            images = TileImages(source, recipe.network, recipe.stretch, thumbnails)
            title = os.path.basename(os.path.abspath(folder))
            DescriptorExtractor(network, distribution).fill(rows, "sat", images, batch_size, title)
            manifest = IndexManifest(
                recipe,
                tiles=len(source),
                values=values,
                kept_values=config.pca or values,
                source=source.record,
                identity=identity,
                spacing=_spacing(source.locations),
                pca_recall=None if config.pca is None else _project(folder, rows.rows, config.pca),
                approximate_recall=_sort(folder, rows.rows) if config.approximate else None,
            )
            write_json(os.path.join(folder, index_files.MANIFEST), manifest)
        for name in OWN_FILES - {DESCRIPTORS}:  # what only a stopped build needs
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(folder, name))
        return read_index_manifest(folder), was_finished


def _identity(source, recipe, config):
    """Digest of what an index depends on, except the content of the tiles' files."""
    digest = hashlib.sha256(json.dumps([dataclasses.asdict(recipe), dataclasses.asdict(config), source.record]).encode())
    digest.update("\n".join(source.names).encode(errors="surrogateescape"))
    digest.update(np.ascontiguousarray(source.locations))
    return digest.hexdigest()


def _is_finished(folder, identity):
    """Whether a folder holds this index, whole; an error if it holds anything else than a part of it."""
    if os.path.lexists(os.path.join(folder, index_files.MANIFEST)):
        if read_index_manifest(folder).identity != identity:
            raise UserError(f"{shortened(folder)}: holds an index of {OTHER}; name another folder, or delete this one")
        return True
    for name in ROWS, FULL:
        manifest = None
        with contextlib.suppress(UserError):  # damaged: all rows are computed again
            manifest = read_rows_manifest(os.path.join(folder, name))
        if manifest is not None and manifest.done and manifest.identity != {"index": identity}:
            raise UserError(
                f"{shortened(folder)}: holds {manifest.done:,} tiles of a build with {OTHER}; run that command again to go on "
                "with it, name another folder, or delete this one"
            )
    names = {name for name in os.listdir(folder) if not name.startswith(".")}
    if names - OWN_FILES and not names & OWN_FILES:
        raise UserError(f"{shortened(folder)}: holds files that are not of an index; name a new folder")
    return False


def _save(path, array):
    with open_whole(path) as file:
        np.save(file, array)


def _thumbnails(folder, rows):
    """(N, THUMBNAIL_BYTES) uint8, mapped into memory, for the rows that a stopped build left."""
    path, shape = os.path.join(folder, index_files.THUMBNAILS), (len(rows.rows), THUMBNAIL_BYTES)
    if rows.done:
        read_array(folder, index_files.THUMBNAILS, shape, ("uint8",))
        return np.load(path, mmap_mode="r+")
    check_space(folder, shape[0] * shape[1], "thumbnails", REMEDY)
    thumbnails = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    allocate(path)
    return thumbnails


def _project(folder, full, values):
    """Write the projection of (N, D) descriptors to fewer values, and the projected ones; returns the search's recall."""
    directions = fit_projection(full, values)
    _save(os.path.join(folder, index_files.PROJECTION), directions)
    path = os.path.join(folder, DESCRIPTORS)
    kept = np.lib.format.open_memmap(path, "w+", full.dtype, (len(full), values))
    allocate(path)
    starts = range(0, len(full), PROJECTED_ROWS)
    for start in ProgressBar(starts, "projection", len(starts), "blocks"):
        rows = slice(start, start + PROJECTED_ROWS)
        kept[rows] = np.asarray(full[rows], np.float32) @ directions
    kept.flush()
    return _recall(full, kept, functools.partial(similarities, kept))


def _sort(folder, full):
    """Write the file of the approximate search; returns its recall, by (N, D) descriptors as the network computed them."""
    kept = np.load(os.path.join(folder, DESCRIPTORS), mmap_mode="r")
    path = os.path.join(folder, index_files.APPROXIMATE)
    write_approximate(path, kept)
    return _recall(full, kept, ApproximateSearch(path, kept).similarities)


def _recall(full, kept, search):
    """How often a search finds a tile's nearest other tile, by the full descriptors, among the 1 and 10 first others.

    Args:
        full, kept: (N, D) descriptors of the network, and (N, K) as the index keeps them.
        search: as `similarities`, a function of queries.

    Returns:
        {"1": share, "10": share} of RECALL_SAMPLE tiles.
    """
    sample = np.sort(np.random.default_rng(0).permutation(len(full))[:RECALL_SAMPLE])
    at_once, hits = max(1, RESULT_BYTES // (6 * len(full))), []
    for start in range(0, len(sample), at_once):
        rows = sample[start : start + at_once]
        exact, _ = similarities(full, np.asarray(full[rows, None], np.float32))
        found, _ = search(np.asarray(kept[rows, None], np.float32))
        itself = np.arange(len(rows)), rows
        exact[itself] = found[itself] = -np.inf
        first = closest(found, min(10, len(full) - 1))[0]
        hits.append(first == exact.argmax(axis=1)[:, None])
    hits = np.concatenate(hits)
    return {str(k): float(np.mean(hits[:, :k].any(axis=1))) for k in (1, 10)}


def _spacing(locations):
    """Median metres from a place to its nearest other one; None of a single place."""
    if len(locations) < 2:
        return None
    metres = LocalFrame.around(locations).metres(locations)
    return round(float(np.median(cKDTree(metres).query(metres, 2)[0][:, 1])), 3)
