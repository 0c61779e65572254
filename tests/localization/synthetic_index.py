"""An index whose descriptors are random waves over the ground, and panoramas that are one colour: the number of their place.

Similarity falls with distance as a real network's does, and everything but the network is the project's own.
"""

import dataclasses
import os

import cv2
import numpy as np

from safa.localization import index_files
from safa.localization.coordinates import LocalFrame
from safa.localization.index_files import DescriptorRecipe, IndexManifest
from safa.localization.tile_search import write_approximate
from safa.localization.tile_source import SourceRecord
from safa.runtime.files import write_json
from safa.settings import NetworkConfig
from VGG import MEAN_BGR

SIDE, SPACING, VALUES, REACH, NOISE = 200.0, 5.0, 256, 8.0, 2.8  # metres, values of a descriptor, metres, of the waves' length
PLACES = 400
FRAME = LocalFrame(149.1, -35.3)
RNG = np.random.default_rng(0)
WAVES, PHASES = RNG.standard_normal((2, VALUES)) / REACH, RNG.uniform(0, 2 * np.pi, VALUES)
TRUTHS = np.concatenate([RNG.uniform(20, SIDE - 20, (PLACES, 2)), np.stack([np.arange(30, 170, 5.0), np.full(28, 90.0)], 1)])
NOISES = RNG.standard_normal((len(TRUTHS), VALUES))


def waves(metres, noise=0.0):
    found = np.cos(metres @ WAVES + PHASES) + NOISE * noise
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def ground(images):
    """What stands for the network's ground branch: descriptors of the places that the images' colours name."""
    numbers = images[:, 0, 0, 0].astype(int) + 256 * images[:, 0, 0, 1].astype(int)
    return waves(TRUTHS[numbers], NOISES[numbers])


ground.fill = MEAN_BGR


def write_index(folder, shift=0.0, dtype=np.float16, approximate=False):
    """An index of the square, moved east by `shift` metres."""
    os.makedirs(folder)
    grid = np.stack(np.meshgrid(*[np.arange(0, SIDE + 1, SPACING)] * 2), axis=-1).reshape(-1, 2) + (shift, 0)
    np.save(f"{folder}/{index_files.DESCRIPTORS}", waves(grid).astype(dtype))
    np.save(f"{folder}/{index_files.LOCATIONS}", FRAME.locations(grid))
    write_json(f"{folder}/{index_files.NAMES}", [f"tile {number}" for number in range(len(grid))])
    if approximate:
        write_approximate(f"{folder}/{index_files.APPROXIMATE}", waves(grid))
    recipe = DescriptorRecipe(NetworkConfig(), "none", "float32", None, True, 80.0, 65.45)
    known = {"tiles": len(grid), "values": VALUES, "kept_values": VALUES, "identity": np.dtype(dtype).name, "content": "c"}
    known |= {"approximate_recall": (1.0, 1.0) if approximate else None, "files": index_files.file_digests(folder)}
    manifest = IndexManifest(recipe, source=SourceRecord("list"), one_colour=0, spacing=SPACING, **known)
    write_json(f"{folder}/{index_files.MANIFEST}", dataclasses.replace(manifest, digest=manifest.own_digest))
    return str(folder)


def photo(number):
    """The panorama of a place."""
    return np.full((112, 616, 3), (number % 256, number // 256, 0), np.uint8)


def write_photos(folder, numbers):
    """Panoramas of some places, and list.csv of them with their true positions."""
    os.makedirs(folder, exist_ok=True)
    lines = ["path,longitude,latitude,heading"]
    for number in numbers:
        cv2.imwrite(f"{folder}/{number:04d}.png", photo(number))
        longitude, latitude = FRAME.locations(TRUTHS[number])[0]
        lines.append(f"{number:04d}.png,{longitude:.9f},{latitude:.9f},0")
    with open(f"{folder}/list.csv", "w") as file:
        file.write("\n".join(lines) + "\n")
    return f"{folder}/list.csv"
