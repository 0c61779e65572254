"""VIGOR: panoramas of four American cities among overlapping aerial tiles that cover them (Zhu et al., CVPR 2021)."""

import functools
import math
import os
import re

import numpy as np

from safa.datasets.dataset import POLAR, Dataset, Pairs
from safa.datasets.preparation import Preparation
from safa.runtime.errors import UserError, first_few
from safa.runtime.files import naming, ordinary

EARTH_METRES = 6_371_004.0  # radius in VIGOR's own distances
LABELS = "splits", "splits__corrected"  # folders of the lists: as published, and corrected by SliceMatch (CVPR 2023)
CITIES = "NewYork", "Seattle", "SanFrancisco", "Chicago"  # in the order of VIGOR's code
TILES = "satellite_list.txt"
AGAIN = "take the file from the dataset again"
NUMBER = r"(-?\d{1,3}(?:\.\d{1,15})?)"
TILE = re.compile(rf"([^/\\\0]+)_{NUMBER}_{NUMBER}\.\w+")  # satellite_<latitude>_<longitude>.png
PANORAMA = re.compile(rf"([^/\\\0]+),{NUMBER},{NUMBER},\.\w+")  # <id>,<latitude>,<longitude>,.jpg


class VIGOR(Dataset):
    """VIGOR, same-area: `data_dir`/VIGOR, a folder of tiles and one of panoramas for each city, and lists of both.

    Several panoramas share a tile, some tiles have none, and a panorama lies off the centre of its tile. The tiles overlap by
    half, so three more show its place, which are acceptable: VIGOR's semi-positives. "val" is the published test split.
    """

    name = "VIGOR"
    splits = ("train", "val")
    cities = {"train": CITIES, "val": CITIES}
    lists = {"train": "same_area_balanced_train.txt", "val": "same_area_balanced_test.txt"}
    published_counts = {"train": 52_609, "val": 52_605}
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
        self.label_dir = os.path.join(self.tile_dir, labels or next(there, LABELS[0]))

    def pairs(self, split, reference=POLAR):
        """As of `Dataset`: the panoramas of the cities' lists, in their order, among all tiles of these cities.

        Positions are those that the files' names say; a list's offsets in pixels say the same and are not used.
        """
        tiles, tile_places, panoramas, ids, places, labels = [], [], [], [], [], []
        for city in self.cities[split]:
            folder, of_tiles = os.path.join(self.tile_dir, city), self._read(city, TILES, _tile)
            row_of = {name: len(tiles) + row for row, (name, _) in enumerate(of_tiles)}
            if len(row_of) < len(of_tiles):
                path = os.path.join(self.label_dir, city, TILES)
                raise UserError(f"{path}: {len(of_tiles) - len(row_of):,} tiles stand there twice; {AGAIN}")
            latitude = np.mean([place[0] for _, place in of_tiles])
            tiles += [os.path.join(folder, "satellite", name) for name in row_of]
            tile_places += [_metres(place, latitude) for _, place in of_tiles]
            for name, number, place, label in self._read(city, self.lists[split], functools.partial(_label, row_of)):
                panoramas.append(os.path.join(folder, "panorama", name))
                ids.append(number)
                places.append(_metres(place, latitude))
                labels.append(label)
        polar = [os.path.join(self.polar_dir, os.path.splitext(os.path.basename(path))[0] + ".png") for path in tiles]
        sat_paths, truth = polar if reference == POLAR else tiles, np.array([label[0] for label in labels])
        semi = [np.setdiff1d(label[1:], label[:1]) for label in labels]
        utm, query_utm = np.array(tile_places), np.array(places)
        return Pairs(self, split, reference, ids, sat_paths, panoramas, tiles, utm, truth, semi, query_utm=query_utm)

    def preparations(self):
        folders = {city: os.path.join(self.tile_dir, city, "satellite") for city in CITIES}
        return [
            Preparation(
                f"VIGOR polar maps, {city}", folder, self.polar_dir, self.tile_size, self.remedy(), size=self.polar_size
            )
            for city, folder in folders.items()
        ]

    def _read(self, city, name, parse):
        """What `parse` makes of the lines of a city's list; None says that a line is wrong."""
        path = os.path.join(self.label_dir, city, name)
        try:
            with naming(path), open(path, encoding="utf-8-sig", opener=ordinary) as file:
                lines = {number: line for number, line in enumerate(map(str.strip, file), 1) if line}
        except FileNotFoundError:
            raise UserError(f"{path}: not found; {self.remedy()}") from None
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: not a text file ({error}); {AGAIN}") from None
        found = {number: parse(line) for number, line in lines.items()}
        wrong = [f"line {number} ({lines[number][:80]!r})" for number, row in found.items() if row is None]
        if wrong or not found:
            form = "tiles' names" if name == TILES else f"'panorama tile dx dy tile dx dy ...' with four tiles of {TILES}"
            raise UserError(f"{path}: {len(wrong):,} of {len(found):,} lines are not {form}: {first_few(wrong)}; {AGAIN}")
        return list(found.values())


def _place(match):
    """Latitude and longitude that a name says, or None where they are none."""
    latitude, longitude = float(match[2]), float(match[3])
    return (latitude, longitude) if abs(latitude) < 90 and abs(longitude) <= 180 else None


def _tile(line):
    """A tile's name and its place."""
    match = TILE.fullmatch(line)
    place = match and _place(match)
    return place and (line, place)


def _label(row_of, line):
    """A panorama's file, id and place, and the rows of its four tiles, the positive first."""
    name, *fields = line.rsplit(maxsplit=12)
    match = PANORAMA.fullmatch(name)
    place, rows = match and _place(match), [row_of.get(tile) for tile in fields[::3]]
    try:
        offsets = [float(field) for position, field in enumerate(fields) if position % 3]
    except ValueError:
        return None
    is_label = place and len(fields) == 12 and None not in rows and all(map(math.isfinite, offsets))
    return (name, match[1], place, rows) if is_label else None


def _metres(place, latitude):
    """Easting and northing of a place, true to scale on that latitude: within a city, distances err by a few per mille."""
    north, east = map(math.radians, place)
    return EARTH_METRES * math.cos(math.radians(latitude)) * east, EARTH_METRES * north


class VIGORCross(VIGOR):
    """VIGOR, cross-area: trained on two cities, tested on the two others, with all of their panoramas."""

    name = "VIGOR_cross"
    cities = {"train": CITIES[:2], "val": CITIES[2:]}
    lists = dict.fromkeys(("train", "val"), "pano_label_balanced.txt")
    published_counts = {"train": 51_520, "val": 53_694}
