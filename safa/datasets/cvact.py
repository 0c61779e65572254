"""CVACT: panoramas and aerial tiles of Canberra with their positions, in ACT_data.mat (Liu & Li 2019)."""

import os

import numpy as np
import scipy.io

from safa.datasets.dataset import POLAR, Dataset, PairFiles, Pairs
from safa.datasets.preparation import PREPARED_SIZE, Preparation, street_view
from safa.runtime.errors import UserError, first_few, first_line, shortened
from safa.runtime.files import ordinary

NEGATIVE_METRES = 25.0  # the authors' code: pairs closer than this are not negatives of each other
HIT_METRES = 5.0  # CVACT_test: a match this close to the truth counts too
MOST_METRES = 1e8  # of a coordinate: ten times UTM's greatest northing; its square is far from float64's limits


class CVACT(Dataset):
    """CVACT (Liu & Li 2019), training and validation: `data_dir`/ANU_data_small, pairs and positions in ACT_data.mat."""

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
            Pairs with UTM positions.

        Raises:
            UserError: ACT_data.mat is missing, cannot be read, lacks what the split needs, or holds positions that are
                none or ids that are no file names.
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
        """A split's ids and their (N, 2) float64 positions, checked."""
        struct, field = self.indices[split]
        try:
            read = _read_mat_7_3 if _is_mat_7_3(self.mat) else _read_mat
            ids, utm, numbers = read(self.mat, struct, field)
            with np.errstate(invalid="ignore"):
                rows = numbers.astype(np.int64) - 1
        except FileNotFoundError:
            raise UserError(f"{self.mat}: not found; {self.remedy()}") from None
        except UserError:
            raise
        except (KeyError, ValueError, IndexError, TypeError, AttributeError) as error:
            raise UserError(
                f"{self.mat}: lacks panoIds, utm or {struct}.{field}, or is damaged "
                f"({first_line(error)}); take it from the dataset again"
            ) from None
        except Exception as error:  # whatever else broken bytes lead the parsers to
            raise UserError(
                f"{self.mat}: not a MATLAB file that can be read ({first_line(error)}); take it from the dataset again"
            ) from None
        if utm.shape != (len(ids), 2) or not rows.size or rows.min() < 0 or rows.max() >= len(ids):
            raise UserError(
                f"{self.mat}: {len(ids):,} panoIds, positions of shape {utm.shape} and the indices of "
                f"{struct}.{field} do not fit together; take the file from the dataset again"
            )
        if (numbers != rows + 1).any():
            raise UserError(
                f"{self.mat}: indices of {struct}.{field} are not finite whole numbers; take the file from the dataset again"
            )
        wrong = np.count_nonzero(~(np.abs(utm) <= MOST_METRES).all(axis=1))  # NaN is not less than anything
        if wrong:
            raise UserError(
                f"{self.mat}: {wrong:,} of {len(utm):,} positions are not finite or have more than "
                f"{MOST_METRES:,.0f} metres; take the file from the dataset again"
            )
        ids = [ids[row] for row in rows]
        wrong = [repr(shortened(name)) for name in ids if not name or any(each in name for each in "/\\\0")]
        if wrong:
            raise UserError(
                f"{self.mat}: {len(wrong):,} panoIds of {struct}.{field} are no names of files: "
                f"{first_few(wrong)}; take the file from the dataset again"
            )
        return ids, utm[rows]


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
            raise TypeError("a panoId that is no text")
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
