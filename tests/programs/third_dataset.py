"""Trains and tests on a dataset whose panoramas share tiles, in one class: VIGOR's form, made of the toy town's files.

Arguments: "train" or "test", then the flags of train_cvusa.py or test_cvusa.py.
"""

import json
import os
import sys

import numpy as np

from safa.datasets.dataset import POLAR, Dataset, Pairs
from safa.datasets.registry import DATASETS
from safa.launch.testing import launch_testing
from safa.launch.training import launch_training
from safa.runtime.errors import reported


class Third(Dataset):
    """`data_dir`/pairs.json: {split: {"tiles": [...], "panoramas": [[file, row of its tile, rows that are also right]]}}."""

    name = "Third"
    splits = ("train", "val")
    tile_size = (128, 128)
    panorama_size = query_size = (112, 616)

    def __init__(self, data_dir="Data", prepared_dir=None):
        super().__init__(data_dir, prepared_dir)
        self.tile_dir = os.path.join(self.data_dir, "CVUSA", "bingmap", "19")
        self.polar_dir = os.path.join(self.prepared_dir, "CVUSA", "polarmap", "19")

    def pairs(self, split, reference=POLAR):
        with open(os.path.join(self.data_dir, "pairs.json"), encoding="utf-8") as file:
            listed = json.load(file)[split]
        tiles = [os.path.join(self.tile_dir, f"{name}.jpg") for name in listed["tiles"]]
        polar = [os.path.join(self.polar_dir, f"{name}.png") for name in listed["tiles"]]
        names, truth, acceptable = zip(*listed["panoramas"], strict=True)
        folder = os.path.join(self.data_dir, "CVUSA", "streetview", "panos")
        return Pairs(
            self,
            split,
            reference,
            list(names),
            polar if reference == POLAR else tiles,
            [os.path.join(folder, f"{name}.jpg") for name in names],
            tiles,
            truth=np.array(truth),
            acceptable=[np.array(rows, np.int64) for rows in acceptable],
        )


DATASETS["third"] = Third

if __name__ == "__main__":
    action = sys.argv.pop(1)
    with reported():
        if action == "train":
            launch_training(__doc__, Third)
        else:
            launch_testing(__doc__, {"val": Third})
