"""Both images of a training pair are turned and mirrored alike, as the place itself would be."""

import cv2
import numpy as np
import pytest

from input_data import batches
from polar_transform import polar_transform
from safa.datasets.cvusa import CVUSA
from safa.datasets.image_files import read_input
from safa.datasets.pair_augmentation import AugmentedPairs
from safa.datasets.pair_images import PairImages

SHAPES = ((32, 128), (32, 128))


def read(pairs, count, augmented=None):
    images = PairImages.of(pairs, SHAPES).changed(augmented, None)
    return next(batches(images, np.arange(count), count))


@pytest.fixture(scope="module")
def pairs(towns):
    return CVUSA(str(towns / "Data")).pairs("train")


@pytest.mark.parametrize("quarters, flip", [(1, False), (3, False), (0, True), (1, True)])
def test_a_tile_is_changed_as_its_polar_map(pairs, quarters, flip):
    of_tiles, of_maps = (
        AugmentedPairs(np.array([quarters / 4]), np.array([flip]), polar, np.array([0])) for polar in (False, True)
    )
    tile = cv2.GaussianBlur(read_input(pairs.tile_paths[0], (128, 128)), (0, 0), 3)
    expected = of_maps.sat(0, polar_transform(tile, 32, 128)).astype(int)
    found = polar_transform(np.ascontiguousarray(of_tiles.sat(0, tile)), 32, 128).astype(int)
    others = [np.abs(np.roll(expected, shift, axis=1) - found).mean() for shift in (32, 64, 96)]
    assert np.abs(expected - found).mean() < min(others) / 3  # a mirrored tile's centre is a pixel off the polar map's


def test_both_images_of_a_pair_are_changed_alike_and_stay_whole(pairs):
    plain = read(pairs, 16)
    augmented = AugmentedPairs.drawn(pairs, True, True, 0, 1)
    changed = read(pairs, 16, augmented)
    changes = []
    for slot in range(16):
        found = [
            (shift, flip)
            for flip in (False, True)
            for shift in range(128)
            if all(
                np.array_equal(np.roll(image[:, ::-1] if flip else image, shift, axis=1), other)
                for image, other in ((plain.sat[slot], changed.sat[slot]), (plain.grd[slot], changed.grd[slot]))
            )
        ]
        assert len(found) == 1
        changes += found
    shifts, flips = zip(*changes, strict=True)
    assert len(set(shifts)) > 8 and len(set(flips)) == 2


def test_draws_follow_from_seed_and_epoch(pairs):
    def sat(seed, epoch, rotate=True, flip=True):
        augmented = AugmentedPairs.drawn(pairs, rotate, flip, seed, epoch)
        return read(pairs, 8, augmented).sat

    first = sat(0, 1)
    np.testing.assert_array_equal(first, sat(0, 1))
    assert not np.array_equal(first, sat(0, 2)) and not np.array_equal(first, sat(1, 1))
    assert not np.array_equal(sat(0, 1, flip=False), sat(0, 1, rotate=False))
    assert AugmentedPairs.drawn(pairs, False, False, 0, 1) is None


def test_queries_of_one_tile_share_its_change():
    augmented = AugmentedPairs(np.array([0.25, 0.5]), np.array([False, False]), True, np.array([1, 0, 1]))
    image = np.arange(4 * 8 * 3, dtype=np.uint8).reshape(4, 8, 3)
    for row, reference in enumerate((1, 0, 1)):
        np.testing.assert_array_equal(augmented.grd(row, image), augmented.sat(reference, image))
    np.testing.assert_array_equal(augmented.grd(1, image), np.roll(image, 2, axis=1))
