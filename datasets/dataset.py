"""What a dataset is: pairs of a panorama (the query) and an aerial tile (its reference), and questions about them."""

from runtime.errors import UserError, shortened
from runtime.worker_pool import available_cores

import concurrent.futures
import dataclasses
import os

import numpy as np
from tqdm import tqdm

from datasets.image_files import ImageError, ImageMissing, image_size, same_ratio
from datasets.preparation import Preparation

NAMED = 5  # how many of the wrong files or rows a message names


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Pairs of one split, row by row: row i's panorama was taken at the centre of row i's aerial tile.

    Attributes:
        dataset, split: names, such as "CVUSA" and "train".
        ids: N strings.
        sat_paths, grd_paths: N file paths each: polar maps or aerial tiles, and panoramas.
        utm: (N, 2) float64 easting and northing in metres, or None where the dataset has none.
        sat_size, grd_size: (height, width) of the files as published; resized copies have the same aspect ratio. None:
            any.
        tile_paths: N file paths of the aerial tiles that polar maps are made from; None: unknown.
    """

    dataset: str
    split: str
    ids: list
    sat_paths: list
    grd_paths: list
    utm: np.ndarray | None = None
    sat_size: tuple | None = None
    grd_size: tuple | None = None
    tile_paths: list | None = None

    def __len__(self):
        return len(self.ids)

    @property
    def name(self):
        """For messages, such as "CVUSA train"."""
        return f"{self.dataset} {self.split}"

    def take(self, rows):
        """The pairs of these rows."""
        lists = {
            name: [paths[row] for row in rows]
            for name in ("ids", "sat_paths", "grd_paths", "tile_paths")
            if (paths := getattr(self, name)) is not None
        }
        return dataclasses.replace(self, **lists, utm=None if self.utm is None else self.utm[rows])


class Dataset:
    """A dataset in a folder. A new one is a class like `cvusa.CVUSA` in a file of its own, and a line in `registry`.

    Args:
        data_dir: folder that holds the dataset's folder.
        prepared_dir: folder for the prepared files (default: `data_dir`).

    Attributes:
        name: of its result folders, such as "CVACT_test".
        splits: names, such as ("train", "val").
        published_counts: {split: number of pairs as published}.
        tile_size, panorama_size: (height, width) in pixels, as published.
        negative_metres: in training, pairs closer than this are not negatives of each other; None: all others are.
        hit_metres: in testing, a match this close to the truth counts too; None: only the truth does.
        has_act_data: whether a MATLAB file describes it, which the argument `act_data` names.
        toy_town: what `python -m toy_town --dataset` renders in its format, or None.
        tile_dir: folder of the aerial tiles.
        polar_dir: folder of the polar maps.
        prepared_dirs: folders of all prepared files.
    """

    name = None
    splits = ()
    published_counts = {}
    tile_size = None
    panorama_size = None
    negative_metres = None
    hit_metres = None
    has_act_data = False
    toy_town = None

    def __init__(self, data_dir="Data", prepared_dir=None):
        self.data_dir, self.prepared_dir = data_dir, prepared_dir or data_dir

    def pairs(self, split, polar=1):
        """The pairs of a split.

        Args:
            split: one of `splits`.
            polar: 1 for polar maps as references, 0 for the aerial tiles themselves.

        Returns:
            Pairs.

        Raises:
            UserError: the dataset's list is missing or wrong.
        """
        raise NotImplementedError

    def files(self, split):
        """Paths of a split's four kinds of files, row by row: tile, panorama, polar map, prepared panorama or None."""
        raise NotImplementedError

    def preparations(self):
        """What `data_preparation.py` makes: list of Preparation, polar maps first."""
        return [Preparation(f"{self.name} polar maps", self.tile_dir, self.polar_dir, self.tile_size)]

    def remedy(self):
        """What a user does about a dataset that is not there."""
        toy = self.toy_town and f", or render a toy town: python -m toy_town --dataset {self.toy_town} --data_dir DIR"
        return f"put the dataset into '{self.data_dir}' or name its folder with --data_dir (README, 'Data'){toy or ''}"


def first_few(things):
    return ", ".join(shortened(each, 300) for each in things[:NAMED]) + (", ..." if len(things) > NAMED else "")


def resolve_case(paths):
    """Paths of files; one that does not exist is replaced by one that differs from it in upper and lower case only.

    Args:
        paths: sequence of paths (None stays so).

    Returns:
        List of as many paths; those of files that do not exist at all are unchanged.
    """
    folders, found = {}, []
    for path in paths:
        if path is not None and not os.path.exists(path):
            folder, name = os.path.split(path)
            if folder not in folders:
                folders[folder] = {each.lower(): each for each in os.listdir(folder)} if os.path.isdir(folder) else {}
            path = os.path.join(folder, folders[folder].get(name.lower(), name))
        found.append(path)
    return found


REPLACE = (
    "replace them by the dataset's own (prepared files: delete them and run data_preparation.py), or delete "
    "them and use --skip_missing"
)


def check_files(pairs, dataset, sat_shape, grd_shape, skip_missing=False):
    """Check every file of a split before the first step: existence, header, size, aspect ratio, and end.

    Args:
        pairs: Pairs of `dataset`.
        dataset: Dataset.
        sat_shape, grd_shape: (height, width) of the network's inputs; smaller images are refused.
        skip_missing: leave out pairs with a file that does not exist, instead of refusing the split.

    Returns:
        Pairs: all, or those that exist.

    Raises:
        UserError: how many files are missing, broken, or of another aspect ratio, the first few names, and what to do.
    """

    def size_or_error(path):
        try:
            return image_size(path)
        except ImageError as error:
            return error

    pairs = dataclasses.replace(pairs, sat_paths=resolve_case(pairs.sat_paths), grd_paths=resolve_case(pairs.grd_paths))
    paths = pairs.sat_paths + pairs.grd_paths
    with concurrent.futures.ThreadPoolExecutor(4 * available_cores()) as threads:
        found = list(
            tqdm(
                threads.map(size_or_error, paths),
                f"checking {pairs.name}",
                total=len(paths),
                unit="file",
                leave=False,
                disable=None,
            )
        )
    broken = []
    for view, outcomes, view_paths, shape, published in (
        ("aerial images", found[: len(pairs)], pairs.sat_paths, sat_shape, pairs.sat_size),
        ("panoramas", found[len(pairs) :], pairs.grd_paths, grd_shape, pairs.grd_size),
    ):
        sizes = [(path, size) for path, size in zip(view_paths, outcomes, strict=True) if isinstance(size, tuple)]
        _refuse_ratio(pairs.name, view, sizes, published)
        small = [(path, size) for path, size in sizes if size[0] < shape[0] or size[1] < shape[1]]
        if small and len(small) == len(sizes):
            _refuse_shape(pairs.name, view, shape, [size for _, size in sizes])
        broken += [str(each) for each in outcomes if isinstance(each, ImageError) and not isinstance(each, ImageMissing)]
        broken += [
            f"{shortened(path)}: {_by(size)} pixels, smaller than the network's input {_by(shape)}" for path, size in small
        ]
    if broken:
        raise UserError(
            f"{pairs.name}: {len(broken):,} of {len(paths):,} images cannot be used: {first_few(broken)}; {REPLACE}"
        )
    missing = [isinstance(each, ImageMissing) for each in found]
    if not any(missing):
        return pairs
    absent = np.array(missing).reshape(2, -1).any(axis=0)
    complete = pairs.take(np.flatnonzero(~absent))
    counts = (
        f"{pairs.name}: {sum(missing):,} files are missing, so {int(absent.sum()):,} of {len(pairs):,} pairs are incomplete"
    )
    if skip_missing and len(complete):
        print(f"{counts}; skipped, {len(complete):,} pairs remain", flush=True)
        return complete
    names = [path for path, lost in zip(paths, missing, strict=True) if lost]
    elsewhere = f" --prepared_dir {dataset.prepared_dir}" if dataset.prepared_dir != dataset.data_dir else ""
    remedy = (
        f"run: python data_preparation.py --dataset {dataset.name.lower()} --data_dir {dataset.data_dir}{elsewhere}"
        if names[0].startswith(tuple(dataset.prepared_dirs))
        else "get them from the dataset"
    )
    alternative = f", or use --skip_missing to go on with {len(complete):,} pairs" if len(complete) else ""
    raise UserError(f"{counts}: {first_few(names)}; {remedy}{alternative}")


def _refuse_ratio(split, view, sizes, published):
    """Refuse images that the network would see distorted."""
    other = [
        f"{shortened(path)} ({_by(size)})" for path, size in sizes if published is not None and not same_ratio(size, published)
    ]
    if other:
        raise UserError(
            f"{split}: {len(other):,} of {len(sizes):,} {view} have another aspect ratio than the "
            f"dataset's {_by(published)}: {first_few(other)}; {REPLACE}"
        )


def _refuse_shape(split, view, shape, sizes):
    """Refuse a network whose input is larger than every image, which no other image would change."""
    height, width = (max(side) for side in zip(*sizes, strict=True))
    flags = (
        f"--aerial_size {min(height, width)}"
        if view != "panoramas" and height == width
        else f"--height {min(height, shape[0])} --width {min(width, shape[1])}"
    )
    raise UserError(
        f"{split}: the network's input {_by(shape)} is larger than all {view}, which have "
        f"{_by((height, width))} pixels at most; use {flags} or less"
    )


def _by(size):
    return f"{size[0]}x{size[1]}"
