"""CVACT: panoramas and aerial tiles of Canberra with their UTM coordinates, in ACT_data.mat (Liu & Li 2019)."""

import os

import numpy as np

from safa.datasets.dataset import AGAIN, POLAR, Dataset, Pairs
from safa.datasets.positions import HIT_METRES
from safa.datasets.preparation import PREPARED_SIZE, Preparation, street_view
from safa.runtime.errors import UserError, first_few, first_line, shortened
from safa.runtime.files import ordinary
from safa.runtime.mat_file import read_mat

MAT = "ACT_data.mat"
# It comes with code and not with the images: where the authors' repository has it, beside or below the data.
AUTHORS_FOLDERS = [os.path.join(above, "OriNet_CVACT", "CVACT_orientations") for above in ("", "..", "../script")]
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
    negative_metres = 25.0  # the authors' code: pairs closer than this are not negatives of each other
    prepare_panorama = staticmethod(street_view)
    own_flags = ("act_data",)
    toy_town = "cvact"
    released = "ANU_data_small"
    indices = {"train": ("trainSet", "trainInd"), "val": ("valSet", "valInd")}  # struct and field in ACT_data.mat

    def __init__(self, data_dir="Data", prepared_dir=None, act_data=None):
        """As of `Dataset`; `act_data` names ACT_data.mat, which is looked for in several folders otherwise."""
        super().__init__(data_dir, prepared_dir)
        folders = dict.fromkeys((self.released, "ANU_data_small", "", *AUTHORS_FOLDERS))
        self.mats = [act_data] if act_data else [os.path.normpath(os.path.join(data_dir, each, MAT)) for each in folders]
        self.mat = next(filter(os.path.exists, self.mats), self.mats[0])
        self.tile_dir = os.path.join(data_dir, self.released, "satview_polish")
        self.panorama_dir = os.path.join(data_dir, self.released, "streetview")
        self.polar_dir = os.path.join(self.prepared_dir, self.name, "polarmap")
        self.prepared_panorama_dir = os.path.join(self.prepared_dir, self.name, "streetview")

    def pairs(self, split, reference=POLAR):
        """As of `Dataset`, in the order of the split's index vector, with UTM coordinates."""
        ids, utm = self._read_list(split)
        tile_paths = [os.path.join(self.tile_dir, f"{name}_satView_polish.jpg") for name in ids]
        polar_paths = [os.path.join(self.polar_dir, f"{name}_satView_polish.png") for name in ids]
        grd_paths = [os.path.join(self.prepared_panorama_dir, f"{name}_grdView.png") for name in ids]
        sat_paths = polar_paths if reference == POLAR else tile_paths
        panoramas = [os.path.join(self.panorama_dir, f"{name}_grdView.jpg") for name in ids]
        return Pairs(self, split, reference, ids, sat_paths, grd_paths, tile_paths, utm, panorama_paths=panoramas)

    def preparations(self):
        folders = self.panorama_dir, self.prepared_panorama_dir, self.panorama_size, self.remedy()
        return [*super().preparations(), Preparation(f"{self.name} street views", *folders, self.prepare_panorama)]

    def _places(self):
        """For the message that ACT_data.mat is missing: where else it was looked for, and what to do."""
        if not os.path.isdir(self.tile_dir):
            return f"; {self.remedy()}"
        others = f" (nor {', '.join(self.mats[1:])})" if self.mats[1:] else ""
        return (
            f"{others}; it comes with the authors' code, not with the images: copy it there from script/OriNet_CVACT/"
            "CVACT_orientations/ of github.com/YujiaoShi/cross_view_localization_SAFA, or name it with --act_data"
        )

    def _read_list(self, split):
        """A split's ids and their (N, 2) float64 UTM coordinates, checked."""
        struct, field = self.indices[split]
        try:
            with open(self.mat, "rb", opener=ordinary) as file:
                content = read_mat(file, ["panoIds", "utm", struct])
            ids = [np.asarray(cell).item().strip() for cell in content["panoIds"].ravel()]  # a matrix's rows, or cells
            utm, numbers = np.float64(content["utm"]), np.float64(content[struct][field][0, 0]).ravel()
        except FileNotFoundError:
            raise UserError(f"{self.mat}: not found{self._places()}") from None
        except UserError:
            raise
        except Exception as error:  # whatever broken bytes lead the parser to
            wrong = f"lacks panoIds, utm or {struct}.{field}, or is damaged ({first_line(error)})"
        else:
            wrong = _find_mistake(ids, utm, numbers, f"{struct}.{field}")
        if wrong is not None:
            raise UserError(f"{self.mat}: {wrong}; {AGAIN}")
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
