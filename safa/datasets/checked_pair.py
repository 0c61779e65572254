"""What the files of one pair tell: whether they can be read, what they are, whether prepared ones are what they should be."""

import dataclasses
import functools
import hashlib

import numpy as np

from safa.datasets.checks import COMPARED, TITLES
from safa.datasets.image_files import ImageError, ImageMissing, read_image
from safa.datasets.orientation import ground_colours
from safa.datasets.preparation import polar_map
from safa.runtime.files import read_file
from safa.runtime.progress import ProgressBar
from safa.runtime.worker_pool import worker_map


@dataclasses.dataclass(frozen=True)
class CheckedFile:
    """What an image file tells."""

    path: str
    error: str | None = None  # why it cannot be read
    size: tuple[int, int] | None = None  # (height, width); None where it cannot be read, or does not exist
    digest: bytes | None = None  # of the bytes of a file that `checks.copies` compares with others


@dataclasses.dataclass(frozen=True)
class CheckedPair:
    """What the files of one pair tell; None where it cannot be told."""

    files: dict[str, CheckedFile]  # "tile", "panorama", ...: the kinds that `checks.files_of` gives
    wrong: dict[str, str]  # prepared files, by kind, that are not made of the others: in their "stretch" or "content"
    colours: np.ndarray | None  # (2, rows, columns, 3) float32 of the polar map and the panorama


def check_pairs(pairs, files, workers):
    """A CheckedPair for each of a split's pairs, by some processes; `files`: as of `checks.files_of`."""
    prepare_panorama = next((job.transform for job in pairs.dataset.preparations() if job.transform), None)
    check = functools.partial(check_pair, prepare_panorama, pairs.dataset.polar_size)
    rows = [dict(zip(files, paths, strict=True)) for paths in zip(*files.values(), strict=True)]
    with worker_map(min(workers, -(-len(rows) // 16)), chunksize=4) as parallel_map:
        return list(ProgressBar(parallel_map(check, rows), f"checking {pairs.name}", len(rows), "pairs"))


def check_pair(prepare_panorama, polar_size, paths):
    """The CheckedPair of files, {kind: path}; the function of a worker process.

    `prepare_panorama`: how a panorama is prepared (`preparation.street_view`); None: it is not. `polar_size`: of polar maps.
    """
    read = {kind: _read(path, kind in COMPARED) for kind, path in paths.items()}
    tile, panorama, polar, prepared = (read.get(kind, (None, None))[1] for kind in TITLES)
    wrong, colours = {}, None
    if tile is not None and tile.shape[0] == tile.shape[1]:
        expected = polar_map(tile, size=polar_size)
        if polar is None:
            polar = expected
        elif not np.array_equal(polar, expected):
            wrong["polar_map"] = "stretch" if np.array_equal(polar, polar_map(tile, False, polar_size)) else "content"
    if prepare_panorama is not None and panorama is not None and panorama.shape[1] == 2 * panorama.shape[0]:
        panorama = prepare_panorama(panorama)
        if prepared is not None and not np.array_equal(prepared, panorama):
            wrong["prepared_panorama"] = "content"
    if polar is not None and panorama is not None:
        colours = np.stack([ground_colours(polar), ground_colours(panorama)])
    return CheckedPair({kind: file for kind, (file, _) in read.items()}, wrong, colours)


def _read(path, is_compared):
    """A path's CheckedFile, with a digest if it is compared with others, and image; None where it cannot be read."""
    try:
        image = read_image(path)
        digest = hashlib.blake2b(read_file(path), digest_size=16).digest() if is_compared else None
        return CheckedFile(path, None, image.shape[:2], digest), image
    except ImageMissing:
        return CheckedFile(path), None
    except ImageError as error:
        return CheckedFile(path, str(error)), None
