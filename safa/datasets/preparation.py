"""The prepared files: polar maps of aerial tiles and CVACT's street views, made in parallel, whole, and of one kind."""

import collections
import dataclasses
import errno
import functools
import os
import time
import typing

import cv2
import numpy as np

from polar_transform import HEIGHT, WIDTH, min_max_stretch, polar_transform, to_uint8
from safa.datasets.image_files import ImageError, by_pixels, name_image, read_image, size_or_error, write_image
from safa.runtime.errors import UserError, shortened
from safa.runtime.files import locked, read_json, write_json
from safa.runtime.progress import ProgressBar
from safa.runtime.worker_pool import worker_map

PREPARED_SIZE = HEIGHT, WIDTH
MANIFEST = "preparation.json"  # in a folder of polar maps
# Entropy coding without the search for repetitions: on polar maps of natural images both smaller and faster than
# zlib's levels 1 to 6 (benchmarks/preparing_images.py).
PNG = (cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY)
# What a file system answers where a file's own name is in the way; the other files can be prepared.
NAME_ERRORS = {errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY}
OUTDATED = "prepared files are older than what they are made from: run data_preparation.py --overwrite"
EXTENSIONS = ".jpg", ".jpeg", ".png"  # of the names, in upper or lower case, of images that are prepared


def polar_map(tile, stretch=True, size=PREPARED_SIZE):
    """The prepared reference of an aerial tile, (S, S, 3) -> (*size, 3) uint8: polar transform and, as published, min-max
    stretch; without `stretch`, the transform's grey levels are rounded as they are.
    """
    return (min_max_stretch if stretch else to_uint8)(polar_transform(tile, *size))


def street_view(panorama):
    """CVACT's prepared query, (H, 2H, 3) -> (112, 616, 3) uint8: the middle half of a whole sphere, resized by area.

    Of the dataset's 832 rows, 208 to 623 are kept.
    """
    height = panorama.shape[0]
    return cv2.resize(panorama[height // 4 : height - height // 4], (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)


@dataclasses.dataclass(frozen=True)
class Preparation:
    """Files that `data_preparation.py` makes of a folder's images."""

    title: str  # for messages: "CVUSA polar maps", for instance
    source_dir: str  # of the images
    target_dir: str  # of the prepared files
    published_size: tuple  # (height, width) of the dataset's images
    remedy: str  # what a user does if they are missing
    # (H, W, 3) uint8 -> (*size, 3) uint8; None: `polar_map`, with the run's stretch.
    transform: typing.Callable[[np.ndarray], np.ndarray] | None = None
    size: tuple = PREPARED_SIZE  # (height, width) of the prepared files


@dataclasses.dataclass(frozen=True)
class PreparationManifest:
    """How the polar maps of a folder were made: with the min-max stretch or without."""

    stretch: bool


@dataclasses.dataclass(frozen=True)
class PreparationPlan:
    """What a Preparation has to do."""

    job: Preparation
    files: dict  # {name of the image: name of the prepared file}, sorted
    size: tuple  # (height, width) that most images have; others will be refused one by one

    def __str__(self):
        published = self.job.published_size
        note = "" if self.size == published else f" (the dataset's have {by_pixels(published)})"
        return f"{self.job.title}: {len(self.files):,} images of {by_pixels(self.size)}{note}"


def plan_preparation(job):
    """List the images of a Preparation's folder and find their common size: a PreparationPlan.

    Raises UserError: no folder, no images in it, two images with one name, or images of an impossible shape.
    """
    source_dir, published_size, remedy = job.source_dir, job.published_size, job.remedy
    try:
        names = sorted(os.listdir(source_dir))
    except OSError as error:
        raise UserError(f"{source_dir}: {error.strerror}; {remedy}") from None
    names = [name for name in names if name.lower().endswith(EXTENSIONS) and not name.startswith(".")]
    if not names:
        raise UserError(f"{source_dir}: no images in it whose names end in {', '.join(EXTENSIONS)}; {remedy}")
    files = {name: os.path.splitext(name)[0] + ".png" for name in names}
    twice = [name for name, count in collections.Counter(files.values()).items() if count > 1]
    if twice:
        what = f"{len(twice):,} prepared files would have two sources, the first {shortened(twice[0])}"
        raise UserError(f"{source_dir}: {what}; leave one of them there")
    found = [size_or_error(os.path.join(source_dir, name)) for name in names[:: -(-len(names) // 100)]]
    sizes = collections.Counter(size for size in found if not isinstance(size, ImageError))
    height, width = size = max(sizes, key=lambda size: (sizes[size], size), default=published_size)
    square = published_size[0] == published_size[1]
    if width != (height if square else 2 * height) or height < 4:
        what = f"most images have {by_pixels(size)} pixels, not {'square' if square else 'twice as wide as high'}"
        raise UserError(f"{source_dir}: {what}; the dataset's have {by_pixels(published_size)}")
    return PreparationPlan(job, files, size)


def prepare(plan, stretch, workers, overwrite):
    """Prepare a folder's images in parallel. Where another run prepares the same folder, wait for it first.

    Args:
        plan: PreparationPlan.
        stretch: whether polar maps are stretched.
        workers: processes.
        overwrite: prepare finished files again.

    Returns:
        A line that says what was done, and a list of lines, one for each image that could not be prepared.

    Raises:
        UserError: the folder holds polar maps of the other kind.
    """
    job, transform = plan.job, plan.job.transform
    with locked(job.target_dir, f"{job.target_dir}: another run is preparing there; waiting", wait=True):
        if transform is None:
            _keep_manifest(job.target_dir, stretch, overwrite)
            transform = functools.partial(polar_map, stretch=stretch, size=job.size)
        paths = [(os.path.join(job.source_dir, one), os.path.join(job.target_dir, other)) for one, other in plan.files.items()]
        # After a power cut the file system may have kept a name without its content.
        todo = [each for each in paths if overwrite or size_or_error(each[1]) != job.size]
        begin, finished = time.perf_counter(), len(paths) - len(todo)
        old = len(older_than_sources(set(paths).difference(todo)))
        with worker_map(min(workers, -(-len(todo) // 16)) or 1, chunksize=4) as parallel_map:  # starting takes time
            results = parallel_map(functools.partial(_prepare_file, transform, plan.size), todo)
            bar = ProgressBar(results, job.title, len(paths), "images", finished)
            failures = [failure for failure in bar if failure]
    seconds, done = time.perf_counter() - begin, len(todo) - len(failures)
    line = f"{done:,} prepared in {seconds:.1f} s, {finished:,} were there already, {len(failures):,} failed"
    return line + f"; {old:,} {OUTDATED}" * bool(old), failures


def older_than_sources(made):
    """Those prepared files, each once, that are older than their sources, of (source, prepared file) paths."""

    def is_older(source, prepared):
        try:
            return os.stat(prepared).st_mtime_ns < os.stat(source).st_mtime_ns
        except OSError:  # those that do not exist are another check's
            return False

    return [prepared for source, prepared in dict.fromkeys(made) if is_older(source, prepared)]


def _prepare_file(transform, size, paths):
    source, target = paths
    try:
        with name_image(source):
            prepared = transform(read_image(source, size))
        write_image(target, prepared, PNG)
    except ImageError as error:
        return str(error)
    except OSError as error:
        if error.errno not in NAME_ERRORS:
            raise
        return f"{shortened(target)}: {error.strerror}"
    return None


def _keep_manifest(folder, stretch, overwrite):
    """Say in a folder of polar maps whether they are stretched, and refuse to mix both kinds."""
    finished = [name for name in os.listdir(folder) if name.endswith(".png")]
    before = polar_maps_are_stretched(folder)
    if finished and before != stretch:
        if not overwrite:
            made, change = ("with", "leave out") if before else ("without", "add")
            what = f"{folder}: holds {len(finished):,} polar maps {made} the min-max stretch, and all must be alike"
            raise UserError(f"{what}; {change} --no_stretch to go on with those, or add --overwrite to make all of them again")
        for name in finished:  # a run that is stopped leaves one kind only
            os.unlink(os.path.join(folder, name))
    path = os.path.join(folder, MANIFEST)
    if before != stretch or not (finished or os.path.exists(path)):  # finished ones may lie in a read-only folder
        write_json(path, PreparationManifest(stretch))


def polar_maps_are_stretched(folder):
    """Whether the manifest of a folder of polar maps says that they are stretched; maps without one count as published.

    Raises UserError if the manifest cannot be understood.
    """
    path = os.path.join(folder, MANIFEST)
    return not os.path.exists(path) or read_json(path, PreparationManifest, "delete the folder and prepare again").stretch
