"""Builds an index: computes the tiles' descriptors, resumable, then shortens and sorts them if that is asked for."""

import contextlib
import dataclasses
import functools
import hashlib
import os
import shutil
from typing import Any

import msgspec
import numpy as np
from scipy.spatial import cKDTree

from safa.localization import index_files, updating
from safa.localization.coordinates import LocalFrame
from safa.localization.index_files import (
    DESCRIPTORS,
    DTYPES,
    DescriptorRecipe,
    IndexManifest,
    SearchRecall,
    new_array,
    read_array,
    read_index_manifest,
    save_array,
)
from safa.localization.tile_images import DIGEST_BYTES, RECORD_BYTES, THUMBNAIL_BYTES, TileImages
from safa.localization.tile_search import ApproximateSearch, closest, fit_projection, similarities, write_approximate
from safa.localization.tile_source import ChosenTiles, TileSource
from safa.retrieval.resumable_rows import ResumableRows, read_rows_manifest
from safa.runtime.command_line import Checked, at_least, setting
from safa.runtime.errors import UserError, shortened
from safa.runtime.files import locked, write_json
from safa.runtime.progress import ProgressBar

ROWS = DESCRIPTORS.removesuffix(".npy")
FULL = "full"  # the network's descriptors while they are projected, FULL.npy
OWN_FILES = {f"{name}.{ending}" for name in (ROWS, FULL) for ending in ("npy", "json")}  # of a build that was stopped
RECALL_SAMPLE = 500  # tiles that the recall of a search is measured with: good to two points
PROJECTED_ROWS = 4096  # at a time
RESULT_BYTES = 2**28  # of similarities that are held at a time
LEAST_TILES = 1000  # for an approximate search: fewer are compared in a millisecond
OTHER = "other tiles, another network or other settings"


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


@dataclasses.dataclass(frozen=True)
class TileComputer:
    """What computes descriptors of tiles: a spatial_net.Network with its weights, a runtime.distribution.Distribution that it
    was made for, and how many tiles at a time."""

    recipe: DescriptorRecipe
    network: Any
    distribution: Any
    batch_size: int

    def fill(self, folder, source, config, identity, signatures):
        """Write the descriptors, names, weights and pictures of a source's tiles, or the rest of them.

        Args:
            identity: of what they depend on besides the tiles.
            signatures: of `updating.row_signatures`.

        Returns:
            ResumableRows of the descriptors.
        """
        from safa.retrieval.descriptors import DescriptorExtractor
        from safa.training.weights import write_keras_weights

        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, ROWS if config.pca is None else FULL)
        _forget_changed(folder, path, signatures)
        shape, identity = (len(source), self.network.sat.dimension), {"index": _tiles_digest(identity, source)}
        rows = ResumableRows(shape, config.dtype, path, identity, remedy=index_files.SPACE)
        index_files.write_tile_names(folder, source)
        write_keras_weights(os.path.join(folder, index_files.WEIGHTS), self.network)
        records = _mapped(folder, index_files.RECORDS, RECORD_BYTES, rows)
        records[:, :DIGEST_BYTES] = signatures
        thumbnails = None if config.no_thumbnails else _mapped(folder, index_files.THUMBNAILS, THUMBNAIL_BYTES, rows)
        images = TileImages(source, self.recipe.network, self.recipe.stretch, records, thumbnails)
        title = os.path.basename(os.path.abspath(folder))
        DescriptorExtractor(self.network, self.distribution).fill(rows, "sat", images, self.batch_size, title)
        records.flush()
        return rows


def build_index(folder: str, source: TileSource, computer: TileComputer, config: IndexConfig):
    """Build an index, or the rest of one that was stopped, or update one whose tiles changed; files do not depend on stops.

    Returns:
        IndexManifest, and a line that says what was found in the folder, or None.

    Raises:
        UserError: the folder holds something else, another build writes there, or a tile cannot be read.
    """
    values, note = computer.network.sat.dimension, None
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
        updating.move_in(folder)
        identity = hashlib.sha256(msgspec.json.encode([computer.recipe, config, source.record])).hexdigest()
        signatures = updating.row_signatures(source)
        tiles = {"source": source, "content": _tiles_digest(identity, source, signatures), "identity": identity}
        earlier = _earlier(folder, identity, source)
        if earlier is None:
            rows = computer.fill(folder, source, config, identity, signatures).rows
            recall = None if config.pca is None else _project(folder, rows, config.pca)
            _finish(folder, computer.recipe, config, rows, recall, values, **tiles)
        elif earlier.content == tiles["content"]:
            index_files.check_files(folder, earlier)
            note = f"{shortened(folder)}: was finished before, of the same tiles and weights"
        else:
            index_files.check_files(folder, earlier)
            kept = updating.kept_rows(folder, earlier, source, signatures)
            new = np.flatnonzero(kept < 0)
            if len(new):
                plain, added = dataclasses.replace(config, pca=None, approximate=False), os.path.join(folder, updating.ADDED)
                computer.fill(added, ChosenTiles(source, new), plain, identity, signatures[new])
            merged, rows = updating.merge(folder, earlier, source, kept, signatures)
            _finish(merged, computer.recipe, config, rows, earlier.pca_recall, values, **tiles)
            updating.move_in(folder)
            gone = earlier.tiles - len(np.unique(kept[kept >= 0]))
            note = f"{shortened(folder)}: updated; {len(kept) - len(new):,} tiles kept, {len(new):,} computed, {gone:,} removed"
        for name in OWN_FILES - {DESCRIPTORS}:  # what only a stopped build needs
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(folder, name))
        for name in updating.ADDED, updating.MERGED:
            shutil.rmtree(os.path.join(folder, name), ignore_errors=True)
        return read_index_manifest(folder), note


def built_lines(folder, manifest, note):
    """What is said of a finished index; `note` of `build_index`."""
    if note is not None:
        yield note
    between = "" if manifest.spacing is None else f", {manifest.spacing:g} m apart"
    yield f"{folder}: {manifest.tiles:,} tiles{between}, descriptors of {manifest.kept_values:,} values"
    if manifest.one_colour:
        yield f"warning: {manifest.one_colour:,} tiles show a single colour (water, snow, or no imagery), and no place"
    for name, recall in (("--pca", manifest.pca_recall), ("--approximate", manifest.approximate_recall)):
        if recall is not None:
            yield (
                f"{name}: finds a tile's nearest other tile, by the full descriptors, first in {100 * recall.first:.1f} % and "
                f"among ten in {100 * recall.among_ten:.1f} %"
            )


def _finish(folder, recipe, config, full, pca_recall, values, source, content, identity):
    """Write what follows from an index's (N, D or K) descriptors, and its manifest."""
    records = np.load(os.path.join(folder, index_files.RECORDS), mmap_mode="r")
    manifest = IndexManifest(
        recipe,
        tiles=len(source),
        values=values,
        kept_values=config.pca or values,
        source=source.record,
        identity=identity,
        content=content,
        one_colour=int(np.count_nonzero(records[:, -1])),
        spacing=_spacing(source.locations),
        pca_recall=pca_recall,
        approximate_recall=_sort(folder, full) if config.approximate else None,
        files=index_files.file_digests(folder),
    )
    write_json(os.path.join(folder, index_files.MANIFEST), dataclasses.replace(manifest, digest=manifest.own_digest))


def _tiles_digest(identity, source, signatures=b""):
    """Digest of what an index depends on; without signatures, except the content of the tiles' files."""
    digest = hashlib.sha256(identity.encode())
    digest.update("\n".join(source.names).encode(errors="surrogateescape"))
    digest.update(np.ascontiguousarray(source.locations))
    digest.update(signatures)
    return digest.hexdigest()


def _earlier(folder, identity, source):
    """The IndexManifest of the finished index in a folder, or None; an error if it holds anything else than a part of it."""
    if os.path.lexists(os.path.join(folder, index_files.MANIFEST)):
        manifest = read_index_manifest(folder)
        if manifest.identity != identity:
            raise UserError(f"{shortened(folder)}: holds an index of {OTHER}; name another folder, or delete this one")
        return manifest
    for name in ROWS, FULL:
        manifest = None
        with contextlib.suppress(UserError):  # damaged: all rows are computed again
            manifest = read_rows_manifest(os.path.join(folder, name))
        if manifest is not None and manifest.done and manifest.identity != {"index": _tiles_digest(identity, source)}:
            raise UserError(
                f"{shortened(folder)}: holds {manifest.done:,} tiles of a build with {OTHER}; run that command again to go on "
                "with it, name another folder, or delete this one"
            )
    names = {name for name in os.listdir(folder) if not name.startswith(".")}
    if names - OWN_FILES and not names & OWN_FILES:
        raise UserError(f"{shortened(folder)}: holds files that are not of an index; name a new folder")
    return None


def _forget_changed(folder, path, signatures):
    """Delete the manifest of the rows that a stopped build left if files of their tiles changed since."""
    with contextlib.suppress(UserError, OSError, ValueError):  # damaged: ResumableRows finds that
        manifest = read_rows_manifest(path)
        records = np.load(os.path.join(folder, index_files.RECORDS), mmap_mode="r") if manifest is not None else None
        if manifest is not None and (records[: manifest.done, :DIGEST_BYTES] != signatures[: manifest.done]).any():
            os.unlink(f"{path}.json")


def _mapped(folder, name, width, rows):
    """(N, width) uint8, mapped into memory, beside the rows that a stopped build left."""
    shape = len(rows.rows), width
    if not rows.done:
        return new_array(folder, name, shape, np.uint8)
    read_array(folder, name, shape, ("uint8",))
    return np.load(os.path.join(folder, name), mmap_mode="r+")


def _project(folder, full, values):
    """Write the projection of (N, D) descriptors to fewer values, and the projected ones; returns the search's recall."""
    directions = fit_projection(full, values)
    save_array(os.path.join(folder, index_files.PROJECTION), directions)
    kept = new_array(folder, DESCRIPTORS, (len(full), values), full.dtype)
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
        SearchRecall, of RECALL_SAMPLE tiles.
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
    return SearchRecall(*(float(np.mean(hits[:, :k].any(axis=1))) for k in (1, 10)))


def _spacing(locations):
    """Median metres from a place to its nearest other one; None of a single place."""
    if len(locations) < 2:
        return None
    metres = LocalFrame.around(locations).metres(locations)
    return round(float(np.median(cKDTree(metres).query(metres, 2)[0][:, 1])), 3)
