"""The datasets on disk: pairs of a panorama (the query) and an aerial tile (its reference), and batches of them."""
import collections
import concurrent.futures
import csv
import dataclasses
import itertools
import json
import os

import cv2
import numpy as np
import scipy.io
from tqdm import tqdm

from errors import UserError
from image_files import ImageError, image_size, read_image
from worker_pool import available_cores

STRETCH_NOTE = "preparation.json"  # in a folder of polar maps: how data_preparation.py made them
NAMED = 5  # how many of the wrong files or rows a message names


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Pairs of one split, row by row: row i's panorama was taken at the centre of row i's aerial tile.

    Attributes:
        dataset, split: names, such as "CVUSA" and "train".
        ids: N strings.
        sat_paths, grd_paths: N file paths each: polar maps or aerial tiles, and panoramas.
        utm: (N, 2) float64 easting and northing in metres, or None where the dataset has none.
    """
    dataset: str
    split: str
    ids: list
    sat_paths: list
    grd_paths: list
    utm: np.ndarray | None = None

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
    aerial_size = 750
    toy_world = "cvusa"

    def __init__(self, data_dir="Data"):
        self.data_dir = data_dir
        self.root = os.path.join(data_dir, "CVUSA")
        self.aerial_dir = os.path.join(self.root, "bingmap", "19")
        self.polar_dir = os.path.join(self.root, "polarmap", "19")

    def pairs(self, split, polar=1):
        """The pairs that a split's CSV file lists, in its order.

        Args:
            split: "train" or "val" (the paper's test set).
            polar: 1 for polar maps as references, 0 for the aerial tiles themselves.

        Returns:
            Pairs, without UTM positions.

        Raises:
            UserError: the CSV file is missing, empty, or has rows that do not parse.
        """
        path = os.path.join(self.root, "splits", self.splits[split])
        ids, sat_paths, grd_paths, wrong = [], [], [], []
        try:
            with open(path, encoding="utf-8-sig", newline="") as file:
                for number, row in enumerate(csv.reader(file), 1):
                    if not any(field.strip() for field in row):
                        continue
                    aerial, ground = ([field.strip() for field in row] + [""])[:2]
                    folders, name = os.path.split(aerial)
                    if not ground or not folders.startswith("bingmap/"):
                        wrong.append(f"row {number} ({','.join(row)[:80]!r})")
                        continue
                    stem = os.path.splitext(name)[0]
                    if polar:
                        aerial = os.path.join("polarmap", folders.removeprefix("bingmap/"), stem + ".png")
                    ids.append(stem)
                    sat_paths.append(os.path.join(self.root, aerial))
                    grd_paths.append(os.path.join(self.root, ground))
        except FileNotFoundError:
            raise UserError(f"{path}: not found; {_remedy(self)}") from None
        except (UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"{path}: not a CSV text file ({error}); take it from the dataset again") from None
        if wrong:
            raise UserError(f"{path}: {len(wrong):,} rows that are not 'bingmap/...,streetview/...': "
                            f"{_first(wrong)}; take the file from the dataset again")
        if not ids:
            raise UserError(f"{path}: no pairs in it; take the file from the dataset again")
        return Pairs(self.name, split, ids, sat_paths, grd_paths)


class CVACT:
    """CVACT (Liu & Li 2019), training and validation: `data_dir`/ANU_data_small, pairs and positions in ACT_data.mat."""

    name = "CVACT"
    splits = {"train": ("trainSet", "trainInd"), "val": ("valSet", "valInd")}
    released = "ANU_data_small"
    aerial_size = 1200
    panorama_size = (832, 1664)
    toy_world = "cvact"

    def __init__(self, data_dir="Data", mat=None):
        """
        Args:
            data_dir: folder that holds the dataset's folder and the prepared files.
            mat: path of ACT_data.mat where it does not lie in the dataset's folder.
        """
        self.data_dir = data_dir
        self.mat = mat or os.path.join(data_dir, self.released, "ACT_data.mat")
        self.aerial_dir = os.path.join(data_dir, self.released, "satview_polish")
        self.panorama_dir = os.path.join(data_dir, self.released, "streetview")
        self.polar_dir = os.path.join(data_dir, self.name, "polarmap")
        self.prepared_panorama_dir = os.path.join(data_dir, self.name, "streetview")

    def pairs(self, split, polar=1):
        """The pairs of a split in the order of its index vector.

        Args:
            split: "train" or "val".
            polar: 1 for polar maps as references, 0 for the aerial tiles themselves.

        Returns:
            Pairs with UTM positions.

        Raises:
            UserError: ACT_data.mat is missing, cannot be read, or lacks what the split needs.
        """
        struct, field = self.splits[split]
        try:
            content = scipy.io.loadmat(self.mat, variable_names=["panoIds", "utm", struct])
        except FileNotFoundError:
            raise UserError(f"{self.mat}: not found; {_remedy(self)}") from None
        except Exception as error:  # whatever broken bytes lead SciPy's parser to
            raise UserError(f"{self.mat}: not a MATLAB file that can be read ({error}); "
                            "take it from the dataset again") from None
        try:
            ids = [str(name).strip() for name in map(_text, content["panoIds"])]
            utm = np.asarray(content["utm"], np.float64)
            numbers = np.asarray(content[struct][field][0, 0], np.float64).ravel()
            rows = numbers.astype(np.int64) - 1
        except (KeyError, ValueError, IndexError, TypeError) as error:
            raise UserError(f"{self.mat}: lacks panoIds, utm or {struct}.{field} ({error}); "
                            "take it from the dataset again") from None
        if not np.isfinite(utm).all() or (numbers != rows + 1).any():
            raise UserError(f"{self.mat}: positions that are not finite, or indices that are not whole numbers; take "
                            "the file from the dataset again")
        if utm.shape != (len(ids), 2) or not rows.size or rows.min() < 0 or rows.max() >= len(ids):
            raise UserError(f"{self.mat}: {len(ids):,} panoIds, positions of shape {utm.shape} and the indices of "
                            f"{struct}.{field} do not fit together; take the file from the dataset again")
        ids = [ids[row] for row in rows]
        sat_dir, extension = (self.polar_dir, "png") if polar else (self.aerial_dir, "jpg")
        return Pairs(self.name, split, ids,
                     [os.path.join(sat_dir, f"{name}_satView_polish.{extension}") for name in ids],
                     [os.path.join(self.prepared_panorama_dir, f"{name}_grdView.png") for name in ids], utm[rows])


class CVACTTest(CVACT):
    """CVACT_test, 92,802 pairs: `data_dir`/ANU_data_test, laid out like ANU_data_small."""

    name = "CVACT_test"
    splits = {"test": ("valSetAll", "valInd")}
    released = "ANU_data_test"
    toy_world = None


def polar_maps_are_stretched(folder):
    """Whether the note in a folder of polar maps says that they are stretched; maps without a note count as published.

    Raises:
        UserError: the note cannot be understood.
    """
    path = os.path.join(folder, STRETCH_NOTE)
    try:
        with open(path, encoding="utf-8") as file:
            return bool(json.load(file)["stretch"])
    except FileNotFoundError:
        return True
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path}: not a note of data_preparation.py; delete the folder and prepare again") from None


def _text(field):
    return field.item() if isinstance(field, np.ndarray) and field.size == 1 else field


def _remedy(dataset):
    toy = dataset.toy_world and f", or render a toy town: python toy_world.py --dataset {dataset.toy_world} --data_dir DIR"
    return (f"put the dataset into '{dataset.data_dir}' or name its folder with --data_dir (README, 'The datasets')"
            f"{toy or ''}")


def _first(things):
    return ", ".join(things[:NAMED]) + (", ..." if len(things) > NAMED else "")


def checked(pairs, dataset, sat_shape, grd_shape, skip_missing=False):
    """Check every file of a split before the first step: existence, header, size, and end.

    Args:
        pairs: Pairs of `dataset`.
        dataset: CVUSA, CVACT or CVACTTest.
        sat_shape, grd_shape: (height, width) of the network's inputs; smaller images are refused.
        skip_missing: leave out pairs with a file that does not exist, instead of refusing the split.

    Returns:
        Pairs: all, or those that exist.

    Raises:
        UserError: how many files are missing or broken, the first few names, and what to do.
    """
    def problem(path, shape):
        try:
            size = image_size(path)
        except ImageError as error:
            return str(error) if os.path.exists(path) else FileNotFoundError
        if size[0] < shape[0] or size[1] < shape[1]:
            return (f"{path}: {size[0]}x{size[1]} pixels, smaller than the network's input "
                    f"{shape[0]}x{shape[1]}")
        return None

    paths = pairs.sat_paths + pairs.grd_paths
    shapes = [sat_shape] * len(pairs) + [grd_shape] * len(pairs)
    with concurrent.futures.ThreadPoolExecutor(4 * available_cores()) as threads:
        found = list(tqdm(threads.map(problem, paths, shapes), f"checking {pairs.dataset} {pairs.split}",
                          total=len(paths), unit="file", leave=False, disable=None))
    broken = [text for text in found if isinstance(text, str)]
    if broken:
        raise UserError(f"{pairs.dataset} {pairs.split}: {len(broken):,} of {len(paths):,} images cannot be used: "
                        f"{_first(broken)}; replace them (prepared files: delete them and run "
                        f"data_preparation.py), or delete them and use --skip_missing")
    twice = len(pairs) - len(set(pairs.ids))
    if twice:
        print(f"{pairs.dataset} {pairs.split}: {twice:,} pairs repeat the id of another one; in training such a pair "
              "is its own negative, in testing it fills two ranks", flush=True)
    missing = [text is FileNotFoundError for text in found]
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
    remedy = (f"run: python data_preparation.py --dataset {dataset.name.lower()} --data_dir {dataset.data_dir}"
              if names[0].startswith(prepared) else "get them from the dataset")
    alternative = f", or use --skip_missing to go on with {len(complete):,} pairs" if len(complete) else ""
    raise UserError(f"{counts}: {_first(names)}; {remedy}{alternative}")


def batches(pairs, order, batch_size, sat_shape, grd_shape, threads=None, prefetch=2):
    """Read batches of images in threads, a few batches ahead of their use.

    Args:
        pairs: Pairs.
        order: rows of `pairs`, in the order in which they are to come.
        batch_size: pairs in a batch; the last batch may have fewer.
        sat_shape, grd_shape: (height, width) of the network's inputs; images of another size are resized by area.
        threads: number of reading threads (default: as many as cores).
        prefetch: batches read ahead.

    Yields:
        sat: (B, *sat_shape, 3) uint8, BGR.
        grd: (B, *grd_shape, 3) uint8, BGR.
        rows: (B,) int64, the rows of `pairs`.

    Raises:
        UserError: an image cannot be read. A batch never holds an image that was not read.
    """
    def read_into(batch, place, path):
        try:
            image = read_image(path)
        except ImageError as error:
            raise UserError(f"{error}; replace the file (prepared files: delete it and run data_preparation.py)"
                            ) from None
        height, width = batch.shape[1:3]
        if image.shape[:2] != (height, width):
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        batch[place] = image

    order = np.asarray(order, np.int64)
    with concurrent.futures.ThreadPoolExecutor(threads or available_cores()) as pool:
        def begin(rows):
            sat = np.empty((len(rows), *sat_shape, 3), np.uint8)
            grd = np.empty((len(rows), *grd_shape, 3), np.uint8)
            reads = [pool.submit(read_into, batch, place, paths[row])
                     for batch, paths in ((sat, pairs.sat_paths), (grd, pairs.grd_paths))
                     for place, row in enumerate(rows)]
            return sat, grd, rows, reads

        starts = iter(range(0, len(order), batch_size))
        begun = collections.deque()
        try:
            while True:
                for start in itertools.islice(starts, 1 + prefetch - len(begun)):
                    begun.append(begin(order[start:start + batch_size]))
                if not begun:
                    return
                sat, grd, rows, reads = begun.popleft()
                for read in reads:
                    read.result()
                yield sat, grd, rows
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def epoch_order(count, epoch, seed):
    """Shuffled rows of one epoch: (count,) int64, the same for the same seed and epoch."""
    return np.random.default_rng([seed, epoch]).permutation(count)
