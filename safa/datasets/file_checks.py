"""The check of a split's files before a long run begins: none is missing, broken, too small or distorted."""

import concurrent.futures
import dataclasses
import functools
import os
import shlex

import numpy as np

from safa.datasets.image_files import ImageError, ImageMissing, by_pixels, same_ratio, size_or_error
from safa.runtime.errors import UserError, first_few, shortened
from safa.runtime.progress import ProgressBar
from safa.runtime.worker_pool import available_cores


def on_disk(pairs):
    """Pairs where a file that does not exist is replaced by one that differs in upper and lower case only, if there is one."""

    @functools.cache
    def names(folder):
        return {name.lower(): name for name in os.listdir(folder)} if os.path.isdir(folder) else {}

    def found(path):
        folder, name = os.path.split(path)
        return path if os.path.exists(path) else os.path.join(folder, names(folder).get(name.lower(), name))

    lists = {name: getattr(pairs, name) for name in ("sat_paths", "grd_paths", "tile_paths", "panorama_paths")}
    return dataclasses.replace(pairs, **{name: paths and list(map(found, paths)) for name, paths in lists.items()})


def check_files(pairs, shapes, skip_missing=False):
    """Check every file of a split: existence, header, size, aspect ratio, and end.

    Args:
        pairs: datasets.dataset.Pairs.
        shapes: (height, width) of the network's inputs, satellite and ground; smaller images are refused.
        skip_missing: leave out pairs with a file that does not exist, instead of refusing the split.

    Returns:
        pairs: all, or those that exist.
        note: a line that says how many were left out, or None.

    Raises:
        UserError: how many files are missing, broken, or of another aspect ratio, the first few names, and what to do.
    """
    pairs = on_disk(pairs)
    paths, count = pairs.sat_paths + pairs.grd_paths, len(pairs.sat_paths)
    found = sizes_or_errors(pairs.name, paths)
    broken = _unusable(paths[:count], found[:count], shapes[0], pairs.sizes[0])
    broken += _unusable(paths[count:], found[count:], shapes[1], pairs.sizes[1])
    if broken:
        what = f"{pairs.name}: {len(broken):,} of {len(paths):,} images cannot be used: {first_few(broken)}"
        remedy = "replace them (prepared ones: delete them, run data_preparation.py), or delete them and use --skip_missing"
        raise UserError(f"{what}; {remedy}")
    missing = np.array([isinstance(each, ImageMissing) for each in found])
    if not missing.any():
        return pairs, None
    no_tile, no_panorama = missing[:count], missing[count:]
    incomplete = no_tile[pairs.truth] | no_panorama
    complete = pairs.take(np.flatnonzero(~incomplete), None if pairs.one_to_one else np.flatnonzero(~no_tile))
    counts = f"{pairs.name}: {missing.sum():,} files are missing, which {incomplete.sum():,} of {len(pairs):,} pairs need"
    if skip_missing and len(complete):
        return complete, f"{counts}; skipped, {len(complete):,} pairs remain"
    names = [path for path, is_missing in zip(paths, missing, strict=True) if is_missing]
    alternative = f", or use --skip_missing to continue with {len(complete):,} pairs" if len(complete) else ""
    raise UserError(f"{counts}: {first_few(names)}; {_remedy(pairs, names)}{alternative}")


def sizes_or_errors(title, paths):
    """Each file's (height, width), or the ImageError that says why it has none; `title`: of what is checked."""
    with concurrent.futures.ThreadPoolExecutor(4 * available_cores()) as threads:
        sizes = threads.map(size_or_error, paths)
        return list(ProgressBar(sizes, f"checking {title}", len(paths), "files"))


def _unusable(paths, found, shape, published):
    """Lines on images that are broken, too small, or that the network would see distorted."""
    lines = []
    for path, size in zip(paths, found, strict=True):
        if isinstance(size, ImageError):
            lines += [] if isinstance(size, ImageMissing) else [str(size)]
        elif not same_ratio(size, published):
            ratio = f"not the aspect ratio of the dataset's {by_pixels(published)}"
            lines.append(f"{shortened(path)}: {by_pixels(size)} pixels, {ratio}")
        elif size[0] < shape[0] or size[1] < shape[1]:
            smaller = f"smaller than the network's input {by_pixels(shape)} (--height, --width, --aerial_input_size)"
            lines.append(f"{shortened(path)}: {by_pixels(size)} pixels, {smaller}")
    return lines


def _remedy(pairs, missing):
    """What a user does about missing files; a prepared one can be made only if its source is there."""
    dataset, sources = pairs.dataset, dict(zip(pairs.sat_paths, pairs.tile_paths, strict=True))
    sources |= dict(zip(pairs.grd_paths, pairs.panorama_paths or pairs.grd_paths, strict=True))
    absent = [sources[path] for path in missing if not os.path.exists(sources[path])]
    remedies = [f"get {len(absent):,} images from the dataset, the first is {shortened(absent[0])}"] if absent else []
    if len(absent) < len(missing):
        words = ["data_preparation.py", "--dataset", dataset.name.lower(), "--data_dir", str(dataset.data_dir)]
        words += ["--prepared_dir", str(dataset.prepared_dir)] * (dataset.prepared_dir != dataset.data_dir)
        remedies.append(f"run: python {shlex.join(words)}")
    return ", and ".join(remedies)
