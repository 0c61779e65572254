"""The datasets on disk: pairs of a panorama (the query) and an aerial tile (its reference), and batches of them."""
import collections
import concurrent.futures
import csv
import dataclasses
import itertools
import json
import os
import posixpath

import cv2
import numpy as np
import scipy.io
from tqdm import tqdm

from runtime.errors import UserError, first_line, shortened
from datasets.image_files import ImageError, ImageMissing, image_size, name_image, read_image, same_ratio
from polar_transform import HEIGHT, WIDTH
from runtime.files import ordinary
from runtime.worker_pool import available_cores

STRETCH_NOTE = "preparation.json"  # in a folder of polar maps: how data_preparation.py made them
NOTE_BYTES = 10_000  # that are read of such a note
NAMED = 5  # how many of the wrong files or rows a message names
PREPARED_SIZE = HEIGHT, WIDTH  # of polar maps and of CVACT's prepared panoramas
MOST_METRES = 1e8  # of a coordinate: ten times UTM's greatest northing; its square is far from float64's limits


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
    """
    dataset: str
    split: str
    ids: list
    sat_paths: list
    grd_paths: list
    utm: np.ndarray | None = None
    sat_size: tuple | None = None
    grd_size: tuple | None = None

    def __len__(self):
        return len(self.ids)

    def take(self, rows):
        """The pairs of these rows."""
        return dataclasses.replace(
            self, ids=[self.ids[row] for row in rows], sat_paths=[self.sat_paths[row] for row in rows],
            grd_paths=[self.grd_paths[row] for row in rows], utm=None if self.utm is None else self.utm[rows])


class CVUSA:
    """CVUSA (Zhai et al. 2017) in `data_dir`/CVUSA: two CSV files without header name the pairs."""

    name = "CVUSA"
    splits = {"train": "train-19zl.csv", "val": "val-19zl.csv"}
    published = {"train": 35_532, "val": 8_884}  # pairs
    aerial_size = 750
    panorama_size = (224, 1232)  # cut to the part around the horizon
    toy_world = "cvusa"

    def __init__(self, data_dir="Data", prepared_dir=None):
        """
        Args:
            data_dir: folder that holds the dataset's folder.
            prepared_dir: folder for the prepared files (default: `data_dir`).
        """
        self.data_dir, self.prepared_dir = data_dir, prepared_dir or data_dir
        self.root = os.path.join(data_dir, "CVUSA")
        self.aerial_dir = os.path.join(self.root, "bingmap", "19")
        self.polar_dir = os.path.join(self.prepared_dir, "CVUSA", "polarmap", "19")

    def pairs(self, split, polar=1):
        """The pairs that a split's CSV file lists, in its order.

        Args:
            split: "train" or "val" (the paper's test set).
            polar: 1 for polar maps as references, 0 for the aerial tiles themselves.

        Returns:
            Pairs, without UTM positions.

        Raises:
            UserError: the CSV file is missing, empty, or has rows that do not parse or leave the dataset's folder.
        """
        path = os.path.join(self.root, "splits", self.splits[split])
        polar_root = os.path.join(self.prepared_dir, "CVUSA", "polarmap")
        ids, sat_paths, grd_paths, wrong = [], [], [], []
        try:
            with open(path, encoding="utf-8-sig", newline="", opener=ordinary) as file:
                for number, row in enumerate(csv.reader(file), 1):
                    if not any(map(str.strip, row)):
                        continue
                    # Lists that went through Windows may have its separators.
                    aerial, ground = ([field.strip().replace("\\", "/") for field in row[:2]] + [""])[:2]
                    if ".." in aerial + ground:
                        aerial, ground = posixpath.normpath(aerial), posixpath.normpath(ground)
                    folders, _, name = aerial.removeprefix("bingmap/").rpartition("/")
                    stem = name.rpartition(".")[0] or name
                    if (not ground or not stem or "\0" in aerial + ground or not aerial.startswith("bingmap/")
                            or ground.startswith(("/", "../"))):
                        wrong.append(f"row {number} ({','.join(row)[:80]!r})")
                        continue
                    ids.append(stem)
                    sat_paths.append(f"{polar_root}/{folders}/{stem}.png" if polar else f"{self.root}/{aerial}")
                    grd_paths.append(f"{self.root}/{ground}")
        except FileNotFoundError:
            raise UserError(f"{path}: not found; {_remedy(self)}") from None
        except (UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"{path}: not a CSV text file ({error}); take it from the dataset again") from None
        if wrong:
            raise UserError(f"{path}: {len(wrong):,} rows that are not 'bingmap/...,streetview/...' in the dataset's "
                            f"folder: {_first(wrong)}; take the file from the dataset again")
        if not ids:
            raise UserError(f"{path}: no pairs in it; take the file from the dataset again")
        tile_size = self.aerial_size, self.aerial_size
        return Pairs(self.name, split, ids, sat_paths, grd_paths, None, PREPARED_SIZE if polar else tile_size,
                     self.panorama_size)

    def tiles(self, pairs):
        """Aerial tiles that the polar maps of `pairs` are made from."""
        polar_root = os.path.join(self.prepared_dir, "CVUSA", "polarmap")
        return [f"{self.root}/bingmap{path.removeprefix(polar_root).removesuffix('.png')}.jpg"
                for path in pairs.sat_paths]


class CVACT:
    """CVACT (Liu & Li 2019), training and validation: `data_dir`/ANU_data_small, pairs and positions in ACT_data.mat."""

    name = "CVACT"
    splits = {"train": ("trainSet", "trainInd"), "val": ("valSet", "valInd")}
    published = {"train": 35_532, "val": 8_884}  # pairs
    released = "ANU_data_small"
    aerial_size = 1200
    panorama_size = (832, 1664)
    toy_world = "cvact"

    def __init__(self, data_dir="Data", prepared_dir=None, mat=None):
        """
        Args:
            data_dir: folder that holds the dataset's folder.
            prepared_dir: folder for the prepared files (default: `data_dir`).
            mat: path of ACT_data.mat where it does not lie in the dataset's folder.
        """
        self.data_dir, self.prepared_dir = data_dir, prepared_dir or data_dir
        self.mat = mat or os.path.join(data_dir, self.released, "ACT_data.mat")
        self.aerial_dir = os.path.join(data_dir, self.released, "satview_polish")
        self.panorama_dir = os.path.join(data_dir, self.released, "streetview")
        self.polar_dir = os.path.join(self.prepared_dir, self.name, "polarmap")
        self.prepared_panorama_dir = os.path.join(self.prepared_dir, self.name, "streetview")

    def pairs(self, split, polar=1):
        """The pairs of a split in the order of its index vector.

        Args:
            split: "train" or "val".
            polar: 1 for polar maps as references, 0 for the aerial tiles themselves.

        Returns:
            Pairs with UTM positions.

        Raises:
            UserError: ACT_data.mat is missing, cannot be read, lacks what the split needs, or holds positions that are
                none or ids that are no file names.
        """
        struct, field = self.splits[split]
        try:
            read = _read_mat_7_3 if _is_mat_7_3(self.mat) else _read_mat
            ids, utm, numbers = read(self.mat, struct, field)
            with np.errstate(invalid="ignore"):
                rows = numbers.astype(np.int64) - 1
        except FileNotFoundError:
            raise UserError(f"{self.mat}: not found; {_remedy(self)}") from None
        except UserError:
            raise
        except (KeyError, ValueError, IndexError, TypeError, AttributeError) as error:
            raise UserError(f"{self.mat}: lacks panoIds, utm or {struct}.{field}, or is damaged "
                            f"({first_line(error)}); take it from the dataset again") from None
        except Exception as error:  # whatever else broken bytes lead the parsers to
            raise UserError(f"{self.mat}: not a MATLAB file that can be read ({first_line(error)}); "
                            "take it from the dataset again") from None
        if utm.shape != (len(ids), 2) or not rows.size or rows.min() < 0 or rows.max() >= len(ids):
            raise UserError(f"{self.mat}: {len(ids):,} panoIds, positions of shape {utm.shape} and the indices of "
                            f"{struct}.{field} do not fit together; take the file from the dataset again")
        if (numbers != rows + 1).any():
            raise UserError(f"{self.mat}: indices of {struct}.{field} are not finite whole numbers; take the file from "
                            "the dataset again")
        wrong = np.count_nonzero(~(np.abs(utm) <= MOST_METRES).all(axis=1))  # NaN is not less than anything
        if wrong:
            raise UserError(f"{self.mat}: {wrong:,} of {len(utm):,} positions are not finite or have more than "
                            f"{MOST_METRES:,.0f} metres; take the file from the dataset again")
        ids = [ids[row] for row in rows]
        wrong = [repr(shortened(name)) for name in ids if not name or any(each in name for each in "/\\\0")]
        if wrong:
            raise UserError(f"{self.mat}: {len(wrong):,} panoIds of {struct}.{field} are no names of files: "
                            f"{_first(wrong)}; take the file from the dataset again")
        sat_dir, extension = (self.polar_dir, "png") if polar else (self.aerial_dir, "jpg")
        return Pairs(self.name, split, ids,
                     [os.path.join(sat_dir, f"{name}_satView_polish.{extension}") for name in ids],
                     [os.path.join(self.prepared_panorama_dir, f"{name}_grdView.png") for name in ids], utm[rows],
                     PREPARED_SIZE if polar else (self.aerial_size, self.aerial_size), PREPARED_SIZE)

    def tiles(self, pairs):
        """Aerial tiles that the polar maps of `pairs` are made from."""
        return [os.path.join(self.aerial_dir, os.path.splitext(os.path.basename(path))[0] + ".jpg")
                for path in pairs.sat_paths]


class CVACTTest(CVACT):
    """CVACT_test, 92,802 pairs: `data_dir`/ANU_data_test, laid out like ANU_data_small."""

    name = "CVACT_test"
    splits = {"test": ("valSetAll", "valInd")}
    published = {"test": 92_802}
    released = "ANU_data_test"
    toy_world = None


def polar_maps_are_stretched(folder):
    """Whether the note in a folder of polar maps says that they are stretched; maps without a note count as published.

    Raises:
        UserError: the note cannot be understood.
    """
    path = os.path.join(folder, STRETCH_NOTE)
    try:
        with open(path, "rb", opener=ordinary) as file:
            stretch = json.loads(file.read(NOTE_BYTES))["stretch"]
        if not isinstance(stretch, bool):
            raise ValueError
        return stretch
    except FileNotFoundError:
        return True
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f"{path}: not a note of data_preparation.py; delete the folder and prepare again") from None


def _is_mat_7_3(path):
    with open(path, "rb", opener=ordinary) as file:
        return file.read(10) == b"MATLAB 7.3"


def _read_mat(path, struct, field):
    """panoIds (list of str), utm ((N, 2) float64), struct.field ((n,) float64) of a MATLAB file up to version 7."""
    def text(cell):
        while isinstance(cell, np.ndarray) and cell.size == 1:
            cell = cell.item()
        if not isinstance(cell, str):
            raise TypeError("a panoId that is no text")
        return cell.strip()
    content = scipy.io.loadmat(path, variable_names=["panoIds", "utm", struct])
    ids = [text(each) for each in content["panoIds"].ravel()]  # rows of a character matrix, or a cell array's cells
    return ids, np.asarray(content["utm"], np.float64), np.asarray(content[struct][field][0, 0], np.float64).ravel()


def _read_mat_7_3(path, struct, field):
    """The same of version 7.3, which is HDF5, with all arrays transposed and texts as character codes."""
    import h5py  # Keras brings it

    def text(codes):
        return bytes(np.asarray(codes, "<u2").ravel()).decode("utf-16-le").strip()
    with h5py.File(path) as file:
        names = file["panoIds"][()]
        ids = ([text(file[name][()]) for name in names.ravel()] if names.dtype == object  # a cell array
               else [text(codes) for codes in names.T])
        return (ids, np.asarray(file["utm"][()], np.float64).T,
                np.asarray(file[struct][field][()], np.float64).ravel())


def _remedy(dataset):
    toy = dataset.toy_world and f", or render a toy town: python -m toy_town --dataset {dataset.toy_world} --data_dir DIR"
    return (f"put the dataset into '{dataset.data_dir}' or name its folder with --data_dir (README, 'The datasets')"
            f"{toy or ''}")


def _first(things):
    return ", ".join(shortened(each, 300) for each in things[:NAMED]) + (", ..." if len(things) > NAMED else "")


def existing(paths):
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


REPLACE = ("replace them by the dataset's own (prepared files: delete them and run data_preparation.py), or delete "
           "them and use --skip_missing")


def checked(pairs, dataset, sat_shape, grd_shape, skip_missing=False):
    """Check every file of a split before the first step: existence, header, size, aspect ratio, and end.

    Args:
        pairs: Pairs of `dataset`.
        dataset: CVUSA, CVACT or CVACTTest.
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

    pairs = dataclasses.replace(pairs, sat_paths=existing(pairs.sat_paths), grd_paths=existing(pairs.grd_paths))
    paths = pairs.sat_paths + pairs.grd_paths
    with concurrent.futures.ThreadPoolExecutor(4 * available_cores()) as threads:
        found = list(tqdm(threads.map(size_or_error, paths), f"checking {pairs.dataset} {pairs.split}",
                          total=len(paths), unit="file", leave=False, disable=None))
    broken = []
    for view, outcomes, view_paths, shape, published in (
            ("aerial images", found[:len(pairs)], pairs.sat_paths, sat_shape, pairs.sat_size),
            ("panoramas", found[len(pairs):], pairs.grd_paths, grd_shape, pairs.grd_size)):
        sizes = [(path, size) for path, size in zip(view_paths, outcomes, strict=True) if isinstance(size, tuple)]
        _refuse_ratio(f"{pairs.dataset} {pairs.split}", view, sizes, published)
        small = [(path, size) for path, size in sizes if size[0] < shape[0] or size[1] < shape[1]]
        if small and len(small) == len(sizes):
            _refuse_shape(f"{pairs.dataset} {pairs.split}", view, shape, [size for _, size in sizes])
        broken += [str(each) for each in outcomes
                   if isinstance(each, ImageError) and not isinstance(each, ImageMissing)]
        broken += [f"{shortened(path)}: {_by(size)} pixels, smaller than the network's input {_by(shape)}"
                   for path, size in small]
    if broken:
        raise UserError(f"{pairs.dataset} {pairs.split}: {len(broken):,} of {len(paths):,} images cannot be used: "
                        f"{_first(broken)}; {REPLACE}")
    missing = [isinstance(each, ImageMissing) for each in found]
    if not any(missing):
        return pairs
    absent = np.array(missing).reshape(2, -1).any(axis=0)
    complete = pairs.take(np.flatnonzero(~absent))
    counts = f"{pairs.dataset} {pairs.split}: {sum(missing):,} files are missing, so {int(absent.sum()):,} of " \
             f"{len(pairs):,} pairs are incomplete"
    if skip_missing and len(complete):
        print(f"{counts}; skipped, {len(complete):,} pairs remain", flush=True)
        return complete
    names = [path for path, lost in zip(paths, missing, strict=True) if lost]
    prepared = dataset.polar_dir, getattr(dataset, "prepared_panorama_dir", dataset.polar_dir)
    elsewhere = f" --prepared_dir {dataset.prepared_dir}" if dataset.prepared_dir != dataset.data_dir else ""
    remedy = (f"run: python data_preparation.py --dataset {dataset.name.lower()} --data_dir {dataset.data_dir}{elsewhere}"
              if names[0].startswith(prepared) else "get them from the dataset")
    alternative = f", or use --skip_missing to go on with {len(complete):,} pairs" if len(complete) else ""
    raise UserError(f"{counts}: {_first(names)}; {remedy}{alternative}")


def _refuse_ratio(split, view, sizes, published):
    """Refuse images that the network would see distorted."""
    other = [f"{shortened(path)} ({_by(size)})" for path, size in sizes
             if published is not None and not same_ratio(size, published)]
    if other:
        raise UserError(f"{split}: {len(other):,} of {len(sizes):,} {view} have another aspect ratio than the "
                        f"dataset's {_by(published)}: {_first(other)}; {REPLACE}")


def _refuse_shape(split, view, shape, sizes):
    """Refuse a network whose input is larger than every image, which no other image would change."""
    height, width = (max(side) for side in zip(*sizes, strict=True))
    flags = (f"--aerial_size {min(height, width)}" if view != "panoramas" and height == width else
             f"--height {min(height, shape[0])} --width {min(width, shape[1])}")
    raise UserError(f"{split}: the network's input {_by(shape)} is larger than all {view}, which have "
                    f"{_by((height, width))} pixels at most; use {flags} or less")


def _by(size):
    return f"{size[0]}x{size[1]}"


def read_input(path, shape):
    """An image as the network takes it.

    Args:
        path: image file.
        shape: (height, width) of the network's input; an image of another size is resized by area.

    Returns:
        (height, width, 3) uint8, BGR.

    Raises:
        UserError: the image cannot be read, or there is too little memory for it.
    """
    try:
        with name_image(path):
            image = read_image(path)
            if image.shape[:2] != tuple(shape):
                image = cv2.resize(image, (shape[1], shape[0]), interpolation=cv2.INTER_AREA)
            return image
    except ImageError as error:
        raise UserError(f"{error}; replace the file (prepared files: delete it and run data_preparation.py)") from None


def batches(pairs, order, batch_size, sat_shape, grd_shape, threads=None, prefetch=2, cache=None):
    """Read batches of images in threads, a few batches ahead of their use.

    Args:
        pairs: Pairs.
        order: rows of `pairs`, in the order in which they are to come.
        batch_size: pairs in a batch; the last batch may have fewer.
        sat_shape, grd_shape: (height, width) of the network's inputs; images of another size are resized by area.
        threads: number of reading threads (default: as many as cores).
        prefetch: batches read ahead.
        cache: image_cache.MemoryCache or DiskCache of these pairs, or None.

    Yields:
        sat: (B, *sat_shape, 3) uint8, BGR.
        grd: (B, *grd_shape, 3) uint8, BGR.
        rows: (B,) int64, the rows of `pairs`.

    Raises:
        UserError: an image cannot be read. A batch never holds an image that was not read.
    """
    views = (pairs.sat_paths, sat_shape), (pairs.grd_paths, grd_shape)

    def read_pair(images, place, row):
        for view, (paths, shape) in enumerate(views):
            image = None if cache is None else cache.get(view, row)
            if image is None:
                image = read_input(paths[row], shape)
                if cache is not None:
                    cache.put(view, row, image)
            images[view][place] = image

    order = np.asarray(order, np.int64)
    with concurrent.futures.ThreadPoolExecutor(threads or available_cores()) as pool:
        def begin(rows):
            images = [np.empty((len(rows), *shape, 3), np.uint8) for _, shape in views]
            return images, rows, [pool.submit(read_pair, images, place, row) for place, row in enumerate(rows)]

        starts = iter(range(0, len(order), batch_size))
        begun = collections.deque()
        try:
            while True:
                for start in itertools.islice(starts, 1 + prefetch - len(begun)):
                    begun.append(begin(order[start:start + batch_size]))
                if not begun:
                    return
                (sat, grd), rows, reads = begun.popleft()
                for read in reads:
                    read.result()
                yield sat, grd, rows
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def epoch_order(count, epoch, seed):
    """Shuffled rows of one epoch: (count,) int64, the same for the same seed and epoch."""
    return np.random.default_rng([seed, epoch]).permutation(count)
