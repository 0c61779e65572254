"""Unknown heading and limited field of view: the queries are DSM's, and the paper's path is left as it is."""

import numpy as np
import pytest
from conftest import TINY, complains, succeeds

from input_data import batches, image_batches
from safa.datasets.cvusa import CVUSA
from safa.datasets.image_files import read_input
from safa.datasets.pair_images import PairImages
from safa.datasets.panorama_views import PanoramaView, kept_columns
from VGG import MEAN_BGR

WIDTH = 128
SHAPES = (32, WIDTH), (32, WIDTH)


def dsm_shifts(pairs):
    """The draws of DSM's test (its input_data, seed 2019, one draw a query)."""
    random = np.random.RandomState(2019)
    return [int(random.rand() * WIDTH) for _ in pairs.ids]


def read(pairs, view):
    """All queries as a test reads them."""
    panoramas = view.test_panoramas(len(pairs), WIDTH, MEAN_BGR)
    images = PairImages.of(pairs, SHAPES, panoramas).grd
    return np.concatenate(list(image_batches(images, np.arange(len(images.paths)), 4)))


@pytest.fixture(scope="module")
def pairs(towns):
    return CVUSA(str(towns / "Data")).pairs("val")


def test_a_query_of_unknown_heading_is_the_panorama_rolled_by_dsms_draw(pairs):
    whole, turned = read(pairs, PanoramaView()), read(pairs, PanoramaView(unknown_heading=True))
    shifts = dsm_shifts(pairs)
    assert len(set(shifts)) > 5 and turned.dtype == np.uint8
    for row, shift in enumerate(shifts):
        np.testing.assert_array_equal(turned[row], np.roll(whole[row], shift, axis=1))
        np.testing.assert_array_equal(turned[row][:, (7 + shift) % WIDTH], whole[row][:, 7])


@pytest.mark.parametrize("fov", [180, 90, 70])
def test_a_limited_query_keeps_its_first_columns_and_the_others_are_zero_in_the_network(pairs, fov):
    whole, limited = read(pairs, PanoramaView()), read(pairs, PanoramaView(fov))
    kept = int(fov / 360 * WIDTH)
    assert kept_columns(fov, WIDTH) == kept
    np.testing.assert_array_equal(limited[:, :, :kept], whole[:, :, :kept])
    np.testing.assert_array_equal(limited[:, :, kept:] - np.array(MEAN_BGR, np.float32), 0)
    both = read(pairs, PanoramaView(fov, True))
    for row, shift in enumerate(dsm_shifts(pairs)):
        np.testing.assert_array_equal(both[row][:, :kept], np.roll(whole[row], shift, axis=1)[:, :kept])


def test_the_turns_of_a_query_cover_the_circle_and_one_of_them_is_near_its_heading(pairs):
    view = PanoramaView(90, True, 8)
    turned, single = read(pairs, view), read(pairs, PanoramaView(90, True))
    assert len(turned) == 8 * len(pairs)
    for turn in range(8):
        rows = turned[turn * len(pairs) : (turn + 1) * len(pairs)]
        np.testing.assert_array_equal(rows, np.roll(single, -turn * WIDTH // 8, axis=2))
    off = view.test_panoramas(len(pairs), WIDTH, MEAN_BGR).degrees_off(WIDTH).reshape(8, -1)
    assert np.allclose(off[0], [-360 / WIDTH * shift for shift in dsm_shifts(pairs)])
    assert (np.abs((off + 180) % 360 - 180).min(axis=0) <= 22.5).all()


def test_the_whole_circle_with_known_heading_is_the_papers_path(pairs):
    assert PanoramaView().test_panoramas(10, WIDTH, MEAN_BGR) is None
    assert PanoramaView().training_panoramas(10, WIDTH, MEAN_BGR, 0, 1) is None
    assert PanoramaView(360, False, 1).is_papers and PanoramaView().name == ""
    expected = [read_input(path, SHAPES[1]) for path in pairs.grd_paths]
    np.testing.assert_array_equal(read(pairs, PanoramaView()), expected)
    np.testing.assert_array_equal(read(pairs, PanoramaView(360, False, 2))[: len(pairs)], expected)  # the first turn is none


def test_training_turns_each_panorama_by_another_angle_in_every_epoch(pairs):
    def turned(seed, epoch):
        panoramas = PanoramaView(180, True).training_panoramas(len(pairs), WIDTH, MEAN_BGR, seed, epoch)
        return next(batches(PairImages.of(pairs, SHAPES).changed(None, panoramas), np.arange(8), 8)).grd

    first = turned(0, 1)
    np.testing.assert_array_equal(first, turned(0, 1))
    assert not np.array_equal(first, turned(0, 2)) and not np.array_equal(first, turned(1, 1))
    np.testing.assert_array_equal(first[:, :, WIDTH // 2 :], np.broadcast_to(np.float32(MEAN_BGR), (8, 32, WIDTH // 2, 3)))


def test_a_network_is_trained_and_tested_on_parts_of_unknown_heading(here):
    small = TINY | {"network_type": "SAFA_1", "epochs": 1}
    succeeds("train_cvusa.py", **small, train_fov=180, random_heading=True, ema=0.5, cwd=here)
    given = {"network_type": "SAFA_1", "fov": 180, "unknown_heading": True}
    output = succeeds("test_cvusa.py", **given, search_heading=4, cwd=here)
    assert "fov 180 unknown heading search 4" in output and "heading within 11.25" in output
    assert (here / "Result/CVUSA/SAFA_1_polar_1_fov_180_unknown_heading_search_4.json").exists()
    again = succeeds("test_cvusa.py", **given, cwd=here)
    assert "satellite descriptors were computed before" in again and "ground descriptors" not in again
    assert "--save_mat" in complains("test_cvusa.py", **given, search_heading=4, save_mat="a.mat", cwd=here)
    assert "--fov 2" in complains("test_cvusa.py", **given | {"fov": 2}, cwd=here)
    assert "--train_fov 2" in complains("train_cvusa.py", **small, train_fov=2, cwd=here)
