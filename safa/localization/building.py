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
from safa.localization.coordinates import LocalFrame, needed
from safa.localization.index_files import DESCRIPTORS, DTYPES, PROJECTION, RECORDS, THUMBNAILS, DescriptorRecipe, IndexManifest
from safa.localization.tile_images import DIGEST_BYTES, RECORD_BYTES, THUMBNAIL_BYTES, TileImages
from safa.localization.tile_search import FAISS, ApproximateSearch, fit_projection, similarities, write_approximate
from safa.localization.tile_source import ChosenTiles, TileSource
from safa.retrieval.resumable_rows import ResumableRows, new_array_file, read_rows_manifest
from safa.retrieval.search import closest
from safa.runtime.command_line import Checked, at_least, setting
from safa.runtime.errors import UserError, first_few, shortened
from safa.runtime.files import locked, write_json
from safa.runtime.progress import ProgressBar

ROWS = DESCRIPTORS.removesuffix(".npy")
FULL = "full"  # the network's descriptors while they are projected, FULL.npy
RECALL_SAMPLE = 500  # tiles that the recall of a search is measured with: good to two points
ROWS_AT_A_TIME = 4096
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


class ProjectedRows(ResumableRows):
    """Rows that are projected to fewer values as they come, if there are (D, K) `directions`.

    The mapped arrays `beside` have the same rows, and are on disk before a manifest says that these are finished.
    """

    directions, beside = None, ()

    def keep(self):
        for array in self.beside:
            array.flush()
        super().keep()

    def write(self, start, rows, milliseconds=None):
        super().write(start, rows if self.directions is None else rows @ self.directions, milliseconds)


def build_index(folder: str, source: TileSource, computer: TileComputer, config: IndexConfig):
    """Build an index, or the rest of one that was stopped, or update one whose tiles changed; files do not depend on stops.

    Returns:
        IndexManifest, and a line that says what was found in the folder, or None.

    Raises:
        UserError: the folder holds something else, another build writes there, or a tile cannot be read.
    """
    values, note = computer.network.sat.dimension, None
    if config.pca is not None and not config.pca < min(values, len(source)):
        most = f"the {values:,} values of a descriptor and the {len(source):,} tiles"
        raise UserError(f"--pca {config.pca}: not less than {most}; use fewer values, or leave it out")
    if config.approximate and len(source) < LEAST_TILES:
        raise UserError(f"--approximate: {len(source):,} tiles are compared exactly in a millisecond; leave it out")
    if config.approximate:
        needed(*FAISS)  # which sorts them after hours
    busy = f"{shortened(folder)}: another build is writing there; wait for it, or name another folder"
    with locked(folder, busy):
        updating.move_in(folder)
        unfinished, earlier = os.path.join(folder, index_files.UNFINISHED), index_files.earlier_manifest(folder)
        identity = hashlib.sha256(msgspec.json.encode([computer.recipe, config, source.record])).hexdigest()
        signatures = updating.row_signatures(source)
        content = hashlib.sha256(_tiles_digest(identity, source).encode() + signatures.tobytes()).hexdigest()
        kept, pca_recall = (), None
        if earlier is not None:
            if earlier.identity != identity:
                remedy = "name another folder, or delete this one"
                if (before := earlier.source.paths) != source.record.paths:
                    remedy += f"; if the tiles only moved, link them to where they were, {first_few(before)}, and name that"
                raise UserError(f"{shortened(folder)}: holds an index of {OTHER}; {remedy}")
            index_files.check_files(folder, earlier)
            if earlier.content == content:
                shutil.rmtree(unfinished, ignore_errors=True)
                return earlier, f"{shortened(folder)}: was finished before, of the same tiles and weights"
            rows, gone = updating.kept_rows(folder, earlier, source, signatures)
            pca_recall = earlier.pca_recall
            order = np.argsort(rows < 0, kind="stable")  # those that are kept come first
            source, signatures, kept = ChosenTiles(source, order), signatures[order], rows[rows >= 0]
            note = (
                f"{shortened(folder)}: updated; {len(kept):,} tiles kept, {len(rows) - len(kept):,} computed, {gone:,} removed"
            )
        full, records = _fill(folder, source, computer, config, _tiles_digest(identity, source), signatures, earlier, kept)
        if config.pca is not None and earlier is None:
            pca_recall = _project(unfinished, full, config.pca)
        manifest = IndexManifest(
            computer.recipe,
            tiles=len(source),
            values=values,
            kept_values=config.pca or values,
            source=source.record,
            identity=identity,
            content=content,
            one_colour=int(np.count_nonzero(records[:, -1])),
            spacing=_spacing(source.locations),
            pca_recall=pca_recall,
            approximate_recall=_sort(unfinished) if config.approximate else None,
            files=index_files.file_digests(unfinished),
        )
        manifest = dataclasses.replace(manifest, digest=manifest.own_digest)
        write_json(os.path.join(unfinished, index_files.MANIFEST), manifest)
        updating.move_in(folder)
        return manifest, note


def _fill(folder, source, computer, config, tiles, signatures, earlier, kept):
    """Write what an unfinished index holds of each tile, or the rest of it.

    Args:
        tiles: digest of what it depends on, but the content of files.
        signatures: of `updating.row_signatures`.
        earlier: IndexManifest of the index in the folder, whose rows `kept`, (n,), are the first tiles; or None.

    Returns:
        (N, D) descriptors, (N, K) of an index that is updated in its own directions, and (N, RECORD_BYTES) records.
    """
    from safa.retrieval.descriptors import DescriptorExtractor
    from safa.training.weights import write_keras_weights

    unfinished = os.path.join(folder, index_files.UNFINISHED)
    os.makedirs(unfinished, exist_ok=True)
    widths = {RECORDS: RECORD_BYTES} | ({} if config.no_thumbnails else {THUMBNAILS: THUMBNAIL_BYTES})
    _check_stopped(folder, unfinished, tiles, signatures, earlier is not None, widths)
    write_keras_weights(os.path.join(unfinished, index_files.WEIGHTS), computer.network)
    names = [name.encode(errors="replace").decode() for name in source.names]
    write_json(os.path.join(unfinished, index_files.NAMES), names)
    index_files.save_array(os.path.join(unfinished, index_files.LOCATIONS), np.asarray(source.locations, np.float64))
    directions, values = None, computer.network.sat.dimension
    if config.pca is not None and earlier is not None:
        directions = index_files.read_array(folder, PROJECTION, (values, config.pca), ("float32",))
        index_files.save_array(os.path.join(unfinished, PROJECTION), directions)
    path = os.path.join(unfinished, FULL if config.pca is not None and directions is None else ROWS)
    shape = len(source), values if directions is None else config.pca
    rows = ProjectedRows(shape, config.dtype, path, {"index": tiles}, remedy=index_files.SPACE)
    arrays = {}
    for name, width in widths.items():
        path = os.path.join(unfinished, name)
        new = None if rows.done else new_array_file(path, (len(source), width), np.uint8, name, index_files.SPACE)
        arrays[name] = np.load(path, mmap_mode="r+") if new is None else new
    rows.beside = arrays.values()
    for start in range(rows.done, len(kept), ROWS_AT_A_TIME):
        own = kept[start : start + ROWS_AT_A_TIME]
        for name, array in arrays.items():
            array[start : start + len(own)] = np.load(os.path.join(folder, name), mmap_mode="r")[own]
        rows.write(start, np.load(os.path.join(folder, DESCRIPTORS), mmap_mode="r")[own])
    arrays[RECORDS][:, :DIGEST_BYTES] = signatures
    rows.directions = directions
    images = TileImages(source, computer.recipe.network, computer.recipe.stretch, arrays[RECORDS], arrays.get(THUMBNAILS))
    title = os.path.basename(os.path.abspath(folder))
    DescriptorExtractor(computer.network, computer.distribution).fill(rows, "sat", images, computer.batch_size, title)
    rows.keep()  # also where all were kept
    return rows.rows, arrays[RECORDS]


def built_lines(folder, manifest):
    """What is said of a finished index."""
    between = "" if manifest.spacing is None else f", {manifest.spacing:g} m apart"
    yield f"{folder}: {manifest.tiles:,} tiles{between}, descriptors of {manifest.kept_values:,} values"
    if manifest.one_colour:
        yield f"warning: {manifest.one_colour:,} tiles show a single colour (water, snow, or no imagery), and no place"
    recalls = {"--pca: finds a tile's nearest other tile by its full descriptor": manifest.pca_recall}
    recalls["--approximate: finds a tile's nearest other tile by an exact search"] = manifest.approximate_recall
    for finds, recall in recalls.items():
        if recall is not None:
            yield f"{finds} first in {100 * recall[0]:.1f} % and among ten in {100 * recall[1]:.1f} %"


def _tiles_digest(identity, source):
    """Digest of what an index depends on, except the content of the tiles' files."""
    digest = hashlib.sha256(identity.encode())
    digest.update("\n".join(source.names).encode(errors="surrogateescape"))
    digest.update(np.ascontiguousarray(source.locations))
    return digest.hexdigest()


def _check_stopped(folder, unfinished, tiles, signatures, is_update, widths):
    """Refuse to go on with a stopped build of other tiles, and forget the rows of one if files of its tiles changed since.

    `widths`: bytes of a row of each array beside the descriptors, which are forgotten too if one of these is damaged.
    """
    for name in ROWS, FULL:
        path, manifest = os.path.join(unfinished, name), None
        with contextlib.suppress(UserError):  # damaged: all rows are computed again
            manifest = read_rows_manifest(path)
        if manifest is None or not manifest.done:
            continue
        if manifest.identity != {"index": tiles} and not is_update:
            raise UserError(
                f"{shortened(folder)}: holds {manifest.done:,} tiles of a build with {OTHER}; run that command again to go on "
                "with it, name another folder, or delete this one"
            )
        with contextlib.suppress(UserError):
            shapes = [(array, (len(signatures), width)) for array, width in widths.items()]
            records, *_ = [index_files.read_array(unfinished, *each, ("uint8",)) for each in shapes]
            if (records[: manifest.done, :DIGEST_BYTES] == signatures[: manifest.done]).all():
                continue
        os.unlink(f"{path}.json")


def _project(folder, full, values):
    """Write the projection of (N, D) descriptors to fewer values, and the projected ones; returns the search's recall."""
    directions, path = fit_projection(full, values), os.path.join(folder, DESCRIPTORS)
    index_files.save_array(os.path.join(folder, PROJECTION), directions)
    kept = new_array_file(path, (len(full), values), full.dtype, DESCRIPTORS, index_files.SPACE)
    starts = range(0, len(full), ROWS_AT_A_TIME)
    for start in ProgressBar(starts, "projection", len(starts), "blocks"):
        rows = slice(start, start + ROWS_AT_A_TIME)
        kept[rows] = np.asarray(full[rows], np.float32) @ directions
    kept.flush()
    return _recall(full, kept, functools.partial(similarities, kept))


def _sort(folder):
    """Write the file of the approximate search; returns its recall."""
    kept = np.load(os.path.join(folder, DESCRIPTORS), mmap_mode="r")
    path = os.path.join(folder, index_files.APPROXIMATE)
    write_approximate(path, kept)
    return _recall(kept, kept, ApproximateSearch(path, kept).similarities)


def _recall(full, kept, search):
    """How often a search finds a tile's nearest other tile among the 1 and 10 first others.

    `full`: (N, D) descriptors by which it is nearest; `kept`: (N, K) as the index keeps them; `search`: of queries of these.
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
    return tuple(float(np.mean(hits[:, :k].any(axis=1))) for k in (1, 10))


def _spacing(locations):
    """Median metres from a place to its nearest other one; None of a single place."""
    locations = np.unique(locations, axis=0)  # imagery of several years has several tiles of a place
    if len(locations) < 2:
        return None
    metres = LocalFrame.around(locations).metres(locations)
    return round(float(np.median(cKDTree(metres).query(metres, 2)[0][:, 1])), 3)
