"""CVUSA: panoramas and aerial tiles of the USA, in pairs that two CSV files name (Zhai et al. 2017)."""

import os
import posixpath

from safa.datasets.dataset import POLAR, Dataset, Pairs

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
        names = self.read_list(path, _names, "'bingmap/...,streetview/...' in the dataset's folder")
        tile_paths, grd_paths = ([f"{self.root}/{name}" for name in of_kind] for of_kind in zip(*names, strict=True))
        stems = [posixpath.splitext(aerial.removeprefix(AERIAL_PREFIX))[0] for aerial, _ in names]
        polar_paths = [os.path.join(self.prepared_dir, "CVUSA", "polarmap", f"{stem}.png") for stem in stems]
        ids = list(map(posixpath.basename, stems))
        return Pairs(self, split, reference, ids, polar_paths if reference == POLAR else tile_paths, grd_paths, tile_paths)


def _names(line):
    """Tile and panorama that a line of a list names, below the dataset's folder; None if they do not lie there."""
    # Lists that went through Windows may have its separators, those that went through a spreadsheet quotes.
    fields = [posixpath.normpath(field.strip(' "').replace("\\", "/")) for field in line.split(",")]
    aerial, ground = [*fields, "."][:2]  # "." is an empty field
    inside = aerial.startswith(AERIAL_PREFIX) and not ground.startswith(("/", "."))
    return (aerial, ground) if inside and "\0" not in aerial + ground else None
