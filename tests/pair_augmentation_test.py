"""Both images of a training pair are turned and mirrored alike, as the place itself would be; queries of unknown heading and
limited field of view are DSM's, and the paper's path is left as it is.
"""

import itertools
from types import SimpleNamespace
from unittest import mock

import cv2
import numpy as np
import pytest
from conftest import TINY, complains, succeeds

from input_data import batches, image_batches
from polar_transform import polar_transform
from safa.datasets import pair_images
from safa.datasets.cvusa import CVUSA
from safa.datasets.image_files import read_input
from safa.datasets.pair_augmentation import AugmentedPairs
from safa.datasets.pair_images import PairImages
from safa.datasets.panorama_views import PanoramaView, kept_columns
from safa.retrieval.descriptors import DescriptorExtractor
from safa.retrieval.resumable_rows import ResumableRows
from safa.runtime.distribution import Distribution
from VGG import MEAN_BGR

WIDTH = 128
SHAPES = (32, WIDTH), (32, WIDTH)


def read(pairs, count, augmented=None):
    images = PairImages.of(pairs, SHAPES).changed(augmented, None)
    return next(batches(images, np.arange(count), count))


@pytest.fixture(scope="module")
def pairs(towns):
    return CVUSA(str(towns / "Data")).pairs("train")


@pytest.fixture(scope="module")
def queries(towns):
    return CVUSA(str(towns / "Data")).pairs("val")


def test_a_tile_is_changed_as_its_polar_map(pairs):
    tile = cv2.GaussianBlur(read_input(pairs.tile_paths[0], (128, 128)), (0, 0), 3)
    for quarters, flip in (1, False), (3, False), (0, True), (1, True):
        change = np.array([quarters / 4]), np.array([flip])
        of_tiles, of_maps = (AugmentedPairs(*change, polar, np.array([0])) for polar in (False, True))
        expected = of_maps.sat(0, polar_transform(tile, 32, 128)).astype(int)
        found = polar_transform(np.ascontiguousarray(of_tiles.sat(0, tile)), 32, 128).astype(int)
        others = [np.abs(np.roll(expected, shift, axis=1) - found).mean() for shift in (32, 64, 96)]
        assert np.abs(expected - found).mean() < min(others) / 3  # a mirrored tile's centre is a pixel off the polar map's


def test_both_images_of_a_pair_are_changed_alike_and_stay_whole(pairs):
    plain = read(pairs, 16)
    changed, ways = read(pairs, 16, AugmentedPairs.drawn(pairs, True, True, 0, 1)), set()
    before, after = (np.concatenate([batch.sat, batch.grd], axis=1) for batch in (plain, changed))  # one above the other
    for image, other in zip(before, after, strict=True):
        all_ways = itertools.product(range(WIDTH), (1, -1))
        (found,) = (way for way in all_ways if np.array_equal(np.roll(image[:, :: way[1]], way[0], axis=1), other))
        ways.add(found)
    assert len({shift for shift, _ in ways}) > 8 and len({flip for _, flip in ways}) == 2


def test_draws_follow_from_seed_and_epoch(pairs):
    ways = (True, True, 0, 1), (True, True, 0, 2), (True, True, 1, 1), (True, False, 0, 1), (False, True, 0, 1)
    once, again = ([read(pairs, 8, AugmentedPairs.drawn(pairs, *way)).sat.tobytes() for way in ways] for _ in range(2))
    assert once == again and len(set(once)) == len(ways)
    assert AugmentedPairs.drawn(pairs, False, False, 0, 1) is None
    # Queries of one tile share its change.
    augmented = AugmentedPairs(np.array([0.25, 0.5]), np.array([False, False]), True, np.array([1, 0, 1]))
    image = np.arange(4 * 8 * 3, dtype=np.uint8).reshape(4, 8, 3)
    for row, reference in enumerate((1, 0, 1)):
        np.testing.assert_array_equal(augmented.grd(row, image), augmented.sat(reference, image))
    np.testing.assert_array_equal(augmented.grd(1, image), np.roll(image, 2, axis=1))


def dsm_shifts(queries):
    """The draws of DSM's test (its input_data, seed 2019, one draw a query)."""
    random = np.random.RandomState(2019)
    return [int(random.rand() * WIDTH) for _ in queries.ids]


def asked(queries, view):
    """All queries as a test reads them."""
    panoramas = view.panoramas(len(queries), WIDTH, MEAN_BGR)
    images = PairImages.of(queries, SHAPES, panoramas).grd
    return np.concatenate(list(image_batches(images, np.arange(len(images.paths)), 4)))


def test_a_query_of_unknown_heading_is_the_panorama_rolled_by_dsms_draw(queries):
    whole, turned = asked(queries, PanoramaView()), asked(queries, PanoramaView(unknown_heading=True))
    shifts = dsm_shifts(queries)
    assert len(set(shifts)) > 5 and turned.dtype == np.uint8
    for row, shift in enumerate(shifts):
        np.testing.assert_array_equal(turned[row], np.roll(whole[row], shift, axis=1))
        np.testing.assert_array_equal(turned[row][:, (7 + shift) % WIDTH], whole[row][:, 7])


def test_a_limited_query_keeps_its_first_columns_and_the_others_are_zero_in_the_network(queries):
    whole = asked(queries, PanoramaView())
    for fov, kept in (180, 64), (90, 32), (70, 24):
        assert kept_columns(fov, WIDTH) == kept
        limited, both = asked(queries, PanoramaView(fov)), asked(queries, PanoramaView(fov, True))
        np.testing.assert_array_equal(limited[:, :, :kept], whole[:, :, :kept])
        np.testing.assert_array_equal(limited[:, :, kept:] - np.array(MEAN_BGR, np.float32), 0)
        for row, shift in enumerate(dsm_shifts(queries)):
            np.testing.assert_array_equal(both[row][:, :kept], np.roll(whole[row], shift, axis=1)[:, :kept])


def test_a_query_is_read_once_for_turns_that_cover_the_circle_and_one_of_them_is_near_its_heading(queries, monkeypatch):
    view, single = PanoramaView(90, True, 8), asked(queries, PanoramaView(90, True))
    panoramas, rows = view.panoramas(len(queries), WIDTH, MEAN_BGR), ResumableRows((10, 8 * single[0].size))
    pixels = SimpleNamespace(dimension=single[0].size)  # a branch whose descriptors are the pixels
    extractor = DescriptorExtractor(SimpleNamespace(sat=pixels, grd=pixels), Distribution(None, "float32"))
    extractor.batch = lambda branch, images: images.reshape(len(images), -1)
    monkeypatch.setattr(pair_images, "read_input", once := mock.Mock(wraps=read_input))
    extractor.fill(rows, "grd", PairImages.of(queries, SHAPES, panoramas).grd, 4, "", view.turns(WIDTH))
    assert once.call_count == len(queries)
    for turn, turned in enumerate(np.moveaxis(rows.rows.reshape(10, 8, *single.shape[1:]), 1, 0)):
        np.testing.assert_array_equal(turned, np.roll(single, -turn * WIDTH // 8, axis=2))
    off = panoramas.degrees_off(view.turns(WIDTH))
    assert np.allclose(off[:, 0], [-360 / WIDTH * shift for shift in dsm_shifts(queries)])
    assert (np.abs((off + 180) % 360 - 180).min(axis=1) <= 22.5).all()


def test_the_whole_circle_with_known_heading_is_the_papers_path(queries):
    whole = PanoramaView()
    assert whole.panoramas(10, WIDTH, MEAN_BGR) is whole.panoramas(10, WIDTH, MEAN_BGR, (0, 1)) is None
    assert whole.name == ""
    expected = [read_input(path, SHAPES[1]) for path in queries.grd_paths]
    np.testing.assert_array_equal(asked(queries, whole), expected)


def test_training_turns_each_panorama_by_another_angle_in_every_epoch(queries):
    def turned(seed, epoch):
        panoramas = PanoramaView(180, True).panoramas(len(queries), WIDTH, MEAN_BGR, (seed, epoch))
        return next(batches(PairImages.of(queries, SHAPES).changed(None, panoramas), np.arange(8), 8)).grd

    first = turned(0, 1)
    np.testing.assert_array_equal(first, turned(0, 1))
    assert not np.array_equal(first, turned(0, 2)) and not np.array_equal(first, turned(1, 1))
    np.testing.assert_array_equal(first[:, :, WIDTH // 2 :], np.broadcast_to(np.float32(MEAN_BGR), (8, 32, WIDTH // 2, 3)))


def test_a_network_is_trained_and_tested_on_parts_of_unknown_heading(here):
    small = TINY | {"network_type": "VGG_gp", "epochs": 1}
    succeeds("train_cvusa.py", **small, train_fov=180, random_heading=True, ema=0.5, cwd=here)
    given = {"network_type": "VGG_gp", "fov": 180, "unknown_heading": True}
    output = succeeds("test_cvusa.py", **given, search_heading=4, cwd=here)
    assert "fov 180 unknown heading search 4" in output and "heading within 11.25" in output
    assert (here / "Result/CVUSA/VGG_gp_polar_1_fov_180_unknown_heading_search_4.json").exists()
    again = succeeds("test_cvusa.py", **given, cwd=here)
    assert "satellite descriptors were computed before" in again and "ground descriptors" not in again
    assert "--save_mat" in complains("test_cvusa.py", **given, search_heading=4, save_mat="a.mat", cwd=here)
    assert "--fov 2" in complains("test_cvusa.py", **given | {"fov": 2}, cwd=here)
    assert "--train_fov 2" in complains("train_cvusa.py", **small, train_fov=2, cwd=here)
