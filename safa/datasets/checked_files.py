"""What image files tell: whether they can be read, what they are, whether prepared ones are what they should be."""

import dataclasses
import functools
import hashlib
import itertools

import numpy as np

from safa.datasets.checks import PREPARED
from safa.datasets.image_files import ImageError, ImageMissing, read_image
from safa.datasets.orientation import ground_colours
from safa.datasets.preparation import polar_map
from safa.runtime.files import read_file
from safa.runtime.progress import ProgressBar
from safa.runtime.worker_pool import worker_map


@dataclasses.dataclass
class CheckedFile:
    """What an image file tells."""

    path: str
    error: str | None = None  # why it cannot be read
    size: tuple[int, int] | None = None  # (height, width); None where it cannot be read, or does not exist
    digest: bytes | None = None  # of the bytes of a source that can be read
    colours: np.ndarray | None = None  # (rows, columns, 3) float32, of what is prepared from a source
    wrong: str | None = None  # in what a prepared file is not made of its source: "stretch" or "content"


def checked_files(dataset, splits, workers):
    """{path: CheckedFile} of a dataset's splits, each the files of `checks.files_of`; some processes read each file once."""
    jobs = {}
    for files, kinds in itertools.product(splits, PREPARED.items()):
        for paths in zip(*(files[kind] for kind in kinds if kind in files), strict=True):
            jobs[paths] = kinds[0]
    check = functools.partial(check_source, dataset.prepare_panorama, dataset.polar_size)
    with worker_map(min(workers, -(-len(jobs) // 16)), chunksize=4) as parallel_map:
        found = ProgressBar(parallel_map(check, jobs.items()), f"checking {dataset.name}", len(jobs), "images")
        return {file.path: file for of_source in found for file in of_source}


def check_source(prepare_panorama, polar_size, job):
    """The CheckedFiles of a source, and of the file that was prepared from it if there is one; called in a worker process.

    Args:
        prepare_panorama, polar_size: of the dataset.
        job: paths of the source and, if there is one, the prepared file; and the source's kind.
    """
    paths, kind = job
    read = [_read(path) for path in paths]
    (source, image), (target, prepared) = [*read, (None, None)][:2]
    expected = image
    if image is not None:
        source.digest = hashlib.blake2b(read_file(source.path), digest_size=16).digest()
        if kind == "tile":
            expected = polar_map(image, size=polar_size) if image.shape[0] == image.shape[1] else None
        elif prepare_panorama is not None and image.shape[1] == 2 * image.shape[0]:
            expected = prepare_panorama(image)
    seen = expected if prepared is None else prepared
    if seen is not None:
        source.colours = ground_colours(seen)
    if prepared is not None and expected is not None and not np.array_equal(prepared, expected):
        is_plain = kind == "tile" and np.array_equal(prepared, polar_map(image, False, polar_size))
        target.wrong = "stretch" if is_plain else "content"
    return [file for file, _ in read]


def _read(path):
    """The CheckedFile of a path, and its image; None where it cannot be read."""
    try:
        image = read_image(path)
        return CheckedFile(path, size=image.shape[:2]), image
    except ImageMissing:
        return CheckedFile(path), None
    except ImageError as error:
        return CheckedFile(path, str(error)), None
