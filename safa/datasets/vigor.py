"""VIGOR: panoramas of four American cities among overlapping aerial tiles that cover them (Zhu et al., CVPR 2021)."""

import math
import os
import re

import numpy as np

from safa.datasets.dataset import POLAR, Dataset, Pairs
from safa.datasets.preparation import Preparation

EARTH_METRES = 6_371_004.0  # radius in VIGOR's own distances
CITIES = "NewYork", "Seattle", "SanFrancisco", "Chicago"  # in the order of VIGOR's code
# Folders of the lists and the ends of their names: as published, and corrected by SliceMatch (Lentsch et al., CVPR 2023).
LABELS = {"splits": ".txt", "splits__corrected": "__corrected.txt"}
TILES = "satellite_list.txt"
# satellite_<latitude>_<longitude>.png and <id>,<latitude>,<longitude>,.jpg
FILE = re.compile(r"[^/\\\0]+" + r"[_,](-?\d{1,3}(?:\.\d{1,15})?)" * 2 + r",?\.\w+")
TILE, LABEL = re.compile("(.+)"), re.compile("(.+)" + (r"\s+(\S+)" + r"\s+-?[\d.]+(?:e-?\d+)?" * 2) * 4)  # lines


class VIGOR(Dataset):
    """VIGOR, same-area: `data_dir`/VIGOR, a folder of tiles and one of panoramas for each city, and lists of both.

    Several panoramas share a tile, some tiles have none, and a panorama lies off the centre of its tile. The tiles overlap by
    half, so three more show its place, which are acceptable: VIGOR's semi-positives. "val" is the published test split.
    """

    name = "VIGOR"
    splits = ("train", "val")
    cities = {"train": CITIES, "val": CITIES}
    lists = {"train": "same_area_balanced_train", "val": "same_area_balanced_test"}
    tile_size = (640, 640)
    panorama_size = query_size = (1024, 2048)
    tile_metres = 71.0  # 640 pixels at zoom 20, twice as fine: 64 in Seattle to 75 in San Francisco
    vertical_fov = 180.0
    is_centred = False
    own_flags = ("labels",)
    toy_town = "vigor"

    def __init__(self, data_dir="Data", prepared_dir=None, labels=None):
        """As of `Dataset`; `labels` names one of LABELS (default: the first that is there)."""
        super().__init__(data_dir, prepared_dir)
        self.tile_dir = os.path.join(data_dir, "VIGOR")
        self.polar_dir = os.path.join(self.prepared_dir, "VIGOR", "polarmap")
        there = (name for name in LABELS if os.path.isdir(os.path.join(self.tile_dir, name)))
        self.labels = labels or next(there, "splits")

    def pairs(self, split, reference=POLAR):
        """As of `Dataset`: the panoramas of the cities' lists, in their order, among all tiles of these cities.

        Positions are those that the files' names say; a list's offsets in pixels say the same and are not used.
        """
        tiles, utm, queries = [], [], []
        for city in self.cities[split]:
            folder = os.path.join(self.tile_dir, city)
            place_of = {name: place for name, place, _ in self._read(city, TILES, TILE)}
            row_of = {name: row for row, name in enumerate(place_of, len(tiles))}
            latitude = np.mean([place[0] for place in place_of.values()])
            tiles += [os.path.join(folder, "satellite", name) for name in place_of]
            utm += [_metres(place, latitude) for place in place_of.values()]
            for name, place, (tile, *semi) in self._read(city, self.lists[split] + LABELS[self.labels], LABEL, row_of):
                path, acceptable = os.path.join(folder, "panorama", name), {row_of[each] for each in semi} - {row_of[tile]}
                acceptable = np.array(sorted(acceptable), np.int64)
                queries.append((name.rsplit(",", 3)[0], path, _metres(place, latitude), row_of[tile], acceptable))
        ids, panoramas, places, truth, semi = map(list, zip(*queries, strict=True))
        polar = [os.path.join(self.polar_dir, os.path.splitext(os.path.basename(path))[0] + ".png") for path in tiles]
        paths = ids, polar if reference == POLAR else tiles, panoramas, tiles
        return Pairs(self, split, reference, *paths, np.array(utm), np.array(truth), semi, query_utm=np.array(places))

    def preparations(self):
        folders = {city: os.path.join(self.tile_dir, city, "satellite") for city in CITIES}
        others = self.polar_dir, self.tile_size, self.remedy(), None, self.polar_size
        return [Preparation(f"VIGOR polar maps, {city}", folder, *others) for city, folder in folders.items()]

    def _read(self, city, name, form, known=()):
        """File, (latitude, longitude) and tiles of each line of a city's list; the lines have a form and `known` tiles."""

        def parse(line):
            match = form.fullmatch(line)
            place, tiles = match and _place(match[1]), match and match.groups()[1:]
            return (match[1], place, tiles) if place and all(tile in known for tile in tiles) else None

        what = "tiles' names" if form is TILE else f"'panorama tile dx dy tile dx dy ...' with four tiles of {TILES}"
        return self.read_list(os.path.join(self.tile_dir, self.labels, city, name), parse, what)


def _place(name):
    """Latitude and longitude in a file's name, or None where it has none."""
    match = FILE.fullmatch(name)
    latitude, longitude = map(float, match.groups()) if match else (math.inf, math.inf)
    return (latitude, longitude) if abs(latitude) < 90 and abs(longitude) <= 180 else None


def _metres(place, latitude):
    """Easting and northing of a place, true to scale on that latitude: within a city, distances err by a few per mille."""
    north, east = map(math.radians, place)
    return EARTH_METRES * math.cos(math.radians(latitude)) * east, EARTH_METRES * north


class VIGORCross(VIGOR):
    """VIGOR, cross-area: trained on two cities, tested on the two others, with all of their panoramas."""

    name = "VIGOR_cross"
    cities = {"train": CITIES[:2], "val": CITIES[2:]}
    lists = dict.fromkeys(("train", "val"), "pano_label_balanced")
