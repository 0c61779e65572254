"""CVACT: panoramas and aerial tiles of Canberra with their UTM coordinates, in ACT_data.mat (Liu & Li 2019)."""

import os

import numpy as np
import scipy.io

from safa.datasets.dataset import POLAR, Dataset, PairFiles, Pairs
from safa.datasets.positions import HIT_METRES
from safa.datasets.preparation import PREPARED_SIZE, Preparation, street_view
from safa.runtime.errors import UserError, first_few, first_line, shortened
from safa.runtime.files import ordinary

NEGATIVE_METRES = 25.0  # the authors' code: pairs closer than this are not negatives of each other
MOST_METRES = 1e8  # of a coordinate: ten times UTM's greatest northing; its square is far from float64's limits


class CVACT(Dataset):
    """CVACT (Liu & Li 2019), training and validation: `data_dir`/ANU_data_small, pairs in ACT_data.mat."""

    name = "CVACT"
    splits = ("train", "val")
    published_counts = {"train": 35_532, "val": 8_884}
    tile_size = (1200, 1200)
    panorama_size = (832, 1664)
    query_size = PREPARED_SIZE
    tile_metres = 146.0  # 1200 pixels at zoom 20 in Canberra
    vertical_fov = 90.0  # the middle half of a sphere
    negative_metres = NEGATIVE_METRES
    has_act_data = True
    toy_town = "cvact"
    released = "ANU_data_small"
    indices = {"train": ("trainSet", "trainInd"), "val": ("valSet", "valInd")}  # struct and field in ACT_data.mat

    def __init__(self, data_dir="Data", prepared_dir=None, act_data=None):
        """As of `Dataset`; `act_data` names ACT_data.mat where it does not lie in the dataset's folder."""
        super().__init__(data_dir, prepared_dir)
        self.mat = act_data or os.path.join(data_dir, self.released, "ACT_data.mat")
        self.tile_dir = os.path.join(data_dir, self.released, "satview_polish")
        self.panorama_dir = os.path.join(data_dir, self.released, "streetview")
        self.polar_dir = os.path.join(self.prepared_dir, self.name, "polarmap")
        self.prepared_panorama_dir = os.path.join(self.prepared_dir, self.name, "streetview")
        self.prepared_dirs = [self.polar_dir, self.prepared_panorama_dir]

    def pairs(self, split, reference=POLAR):
        """The pairs of a split in the order of its index vector.

        Args:
            split: "train" or "val".
            reference: dataset.POLAR or AERIAL.

        Returns:
            Pairs with UTM coordinates.

        Raises:
            UserError: ACT_data.mat is missing, cannot be read, lacks what the split needs, or holds invalid coordinates or
                ids that cannot be file names.
        """
        ids, utm = self._read_list(split)
        tile_paths = [os.path.join(self.tile_dir, f"{name}_satView_polish.jpg") for name in ids]
        polar_paths = [os.path.join(self.polar_dir, f"{name}_satView_polish.png") for name in ids]
        grd_paths = [os.path.join(self.prepared_panorama_dir, f"{name}_grdView.png") for name in ids]
        sat_paths = polar_paths if reference == POLAR else tile_paths
        return Pairs(self, split, reference, ids, sat_paths, grd_paths, tile_paths, utm)

    def files(self, split):
        pairs = self.pairs(split)
        panoramas = [os.path.join(self.panorama_dir, f"{name}_grdView.jpg") for name in pairs.ids]
        return list(map(PairFiles, pairs.tile_paths, panoramas, pairs.sat_paths, pairs.grd_paths))

    def preparations(self):
        return [
            *super().preparations(),
            Preparation(
                f"{self.name} street views", self.panorama_dir, self.prepared_panorama_dir, self.panorama_size, street_view
            ),
        ]

    def _read_list(self, split):
        """A split's ids and their (N, 2) float64 UTM coordinates, checked."""
        struct, field = self.indices[split]
        try:
            read = _read_mat_7_3 if _is_mat_7_3(self.mat) else _read_mat
            ids, utm, numbers = read(self.mat, struct, field)
        except FileNotFoundError:
            raise UserError(f"{self.mat}: not found; {self.remedy()}") from None
        except UserError:
            raise
        except Exception as error:  # whatever broken bytes lead the parsers to
            wrong = f"lacks panoIds, utm or {struct}.{field}, or is damaged ({first_line(error)})"
        else:
            wrong = _find_mistake(ids, utm, numbers, f"{struct}.{field}")
        if wrong is not None:
            raise UserError(f"{self.mat}: {wrong}; take the file from the dataset again")
        rows = numbers.astype(np.int64) - 1
        return [ids[row] for row in rows], utm[rows]


def _find_mistake(ids, utm, numbers, name):
    """What is wrong with the content of ACT_data.mat and the indices of this name, or None."""
    if not (numbers == np.floor(numbers)).all() or np.isinf(numbers).any():  # NaN differs from itself
        return f"indices of {name} are not finite whole numbers"
    if utm.shape != (len(ids), 2) or not numbers.size or numbers.min() < 1 or numbers.max() > len(ids):
        return f"{len(ids):,} panoIds, coordinates of shape {utm.shape} and the indices of {name} do not fit together"
    wrong = np.count_nonzero(~(np.abs(utm) <= MOST_METRES).all(axis=1))  # NaN is not less than anything
    if wrong:
        return f"{wrong:,} of {len(utm):,} coordinates are not finite or exceed {MOST_METRES:,.0f} metres"
    ids = [ids[int(number) - 1] for number in numbers]
    wrong = [repr(shortened(each)) for each in ids if not each or any(character in each for character in "/\\\0")]
    return f"{len(wrong):,} panoIds of {name} cannot be file names: {first_few(wrong)}" if wrong else None


class CVACTTest(CVACT):
    """CVACT_test, 92,802 pairs: `data_dir`/ANU_data_test, laid out like ANU_data_small."""

    name = "CVACT_test"
    splits = ("test",)
    published_counts = {"test": 92_802}
    hit_metres = HIT_METRES
    toy_town = None
    released = "ANU_data_test"
    indices = {"test": ("valSetAll", "valInd")}


def _is_mat_7_3(path):
    with open(path, "rb", opener=ordinary) as file:
        return file.read(10) == b"MATLAB 7.3"


def _read_mat(path, struct, field):
    """panoIds (list of str), utm ((N, 2) float64), struct.field ((n,) float64) of a MATLAB file up to version 7."""

    def text(cell):
        while isinstance(cell, np.ndarray) and cell.size == 1:
            cell = cell.item()
        if not isinstance(cell, str):
            raise TypeError("a panoId is not a text")
        return cell.strip()

    content = scipy.io.loadmat(path, variable_names=["panoIds", "utm", struct])
    ids = [text(each) for each in content["panoIds"].ravel()]  # rows of a character matrix, or a cell array's cells
    return ids, np.asarray(content["utm"], np.float64), np.asarray(content[struct][field][0, 0], np.float64).ravel()


def _read_mat_7_3(path, struct, field):
    """The same of version 7.3, which is HDF5, with all arrays transposed and texts as character codes."""
    import h5py

    def text(codes):
        return bytes(np.asarray(codes, "<u2").ravel()).decode("utf-16-le").strip()

    with h5py.File(path) as file:
        names = file["panoIds"][()]
        ids = (
            [text(file[name][()]) for name in names.ravel()]
            if names.dtype == object  # a cell array
            else [text(codes) for codes in names.T]
        )
        return (ids, np.asarray(file["utm"][()], np.float64).T, np.asarray(file[struct][field][()], np.float64).ravel())
