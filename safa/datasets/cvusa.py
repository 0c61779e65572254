"""CVUSA: panoramas and aerial tiles of the USA, in pairs that two CSV files name (Zhai et al. 2017)."""

import csv
import os
import posixpath

from safa.datasets.dataset import POLAR, Dataset, Pairs
from safa.runtime.errors import UserError, first_few
from safa.runtime.files import naming, ordinary

AERIAL_PREFIX = "bingmap/"  # of all tiles in the lists


class CVUSA(Dataset):
    """CVUSA (Zhai et al. 2017) in `data_dir`/CVUSA: two CSV files without header name the pairs."""

    name = "CVUSA"
    splits = ("train", "val")
    published_counts = {"train": 35_532, "val": 8_884}
    tile_size = (750, 750)
    panorama_size = query_size = (224, 1232)  # cut to the part around the horizon
    tile_metres = 175.0  # 750 pixels at zoom 19 in 39 degrees north; 147 to 204 in the north and south of the country
    vertical_fov = 360 * 224 / 1232  # of square pixels
    toy_town = "cvusa"

    def __init__(self, data_dir="Data", prepared_dir=None):
        super().__init__(data_dir, prepared_dir)
        self.root = os.path.join(data_dir, "CVUSA")
        self.tile_dir = os.path.join(self.root, "bingmap", "19")
        self.polar_dir = os.path.join(self.prepared_dir, "CVUSA", "polarmap", "19")

    def remedy(self):
        """As of `Dataset`. CVUSA is handed out as a folder CVPR_subset, its lists sometimes apart or packed."""
        subset, nested = (os.path.join(folder, "CVPR_subset") for folder in (self.data_dir, self.root))
        if os.path.isdir(subset) and not os.path.isdir(self.root):
            return f"rename '{subset}' to '{self.root}'"
        if os.path.isdir(nested):
            return f"move what '{nested}' holds to '{self.root}'"
        splits, apart = (os.path.join(folder, "splits") for folder in (self.root, self.data_dir))
        if os.path.isdir(self.tile_dir) and not os.path.isdir(splits):
            for path in splits, apart:
                if os.path.exists(f"{path}.tar.gz"):
                    return f"unpack '{path}.tar.gz' in '{self.root}'"
                if os.path.isdir(path):
                    return f"move '{path}' to '{self.root}'"
        return super().remedy()

    def pairs(self, split, reference=POLAR):
        """As of `Dataset`, in the order of the split's CSV file, without coordinates; "val" is the paper's test set."""
        path = os.path.join(self.root, "splits", f"{split}-19zl.csv")
        polar_root = os.path.join(self.prepared_dir, "CVUSA", "polarmap")
        ids, tile_paths, polar_paths, grd_paths, wrong = [], [], [], [], []
        try:
            with naming(path), open(path, encoding="utf-8-sig", newline="", opener=ordinary) as file:
                for number, row in enumerate(csv.reader(file, strict=True), 1):
                    if not any(map(str.strip, row)):
                        continue
                    if (names := _names(row)) is None:
                        wrong.append(f"row {number} ({','.join(row)[:80]!r})")
                        continue
                    aerial, ground = names
                    stem = posixpath.splitext(aerial.removeprefix(AERIAL_PREFIX))[0]
                    ids.append(posixpath.basename(stem))
                    tile_paths.append(f"{self.root}/{aerial}")
                    polar_paths.append(f"{polar_root}/{stem}.png")
                    grd_paths.append(f"{self.root}/{ground}")
        except FileNotFoundError:
            raise UserError(f"{path}: not found; {self.remedy()}") from None
        except (UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"{path}: not a CSV text file ({error}); take it from the dataset again") from None
        if wrong:
            raise UserError(
                f"{path}: {len(wrong):,} rows that are not 'bingmap/...,streetview/...' in the dataset's "
                f"folder: {first_few(wrong)}; take the file from the dataset again"
            )
        if not ids:
            raise UserError(f"{path}: no pairs in it; take the file from the dataset again")
        return Pairs(self, split, reference, ids, polar_paths if reference == POLAR else tile_paths, grd_paths, tile_paths)


def _names(row):
    """Tile and panorama that a row of a list names, below the dataset's folder; None if they do not lie there."""
    # Lists that went through Windows may have its separators.
    aerial, ground = (posixpath.normpath(field.strip().replace("\\", "/")) for field in [*row, ""][:2])
    inside = aerial.startswith(AERIAL_PREFIX) and not ground.startswith(("/", "."))  # "." is an empty field
    return (aerial, ground) if inside and "\0" not in aerial + ground else None
