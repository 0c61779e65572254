"""Pairs and batches hold what the files hold, or nothing."""

import os
import shutil
import tarfile
import threading

import cv2
import numpy as np
import pytest
import scipy.io

import data_preparation
from input_data import batches, epoch_order
from safa.datasets.cvact import CVACT
from safa.datasets.cvusa import CVUSA
from safa.datasets.dataset import AERIAL
from safa.datasets.file_checks import check_files
from safa.datasets.image_files import read_image
from safa.datasets.pair_images import PairImages
from safa.datasets.preparation import polar_map
from safa.runtime.errors import UserError

SHAPE = 112, 616


def test_cvusa_pairs_are_the_rows_of_the_csv_file(towns):
    pairs = CVUSA(towns / "Data").pairs("train")
    assert len(pairs) == 24 and pairs.ids[0] == "0000001" and pairs.utm is None
    assert pairs.sat_paths[0].endswith(os.path.join("CVUSA", "polarmap/19", "0000001.png"))
    assert pairs.grd_paths[0].endswith(os.path.join("CVUSA", "streetview/panos/0000001.jpg"))
    assert CVUSA(towns / "Data").pairs("val", "aerial").sat_paths[0].endswith("bingmap/19/0000025.jpg")


def test_cvact_pairs_are_the_1_based_indices_of_the_mat_file(towns):
    mat = scipy.io.loadmat(towns / "Data/ANU_data_small/ACT_data.mat")
    for split, struct, field in (("train", "trainSet", "trainInd"), ("val", "valSet", "valInd")):
        pairs = CVACT(towns / "Data").pairs(split)
        rows = mat[struct][field][0, 0].ravel() - 1
        assert pairs.ids == [str(mat["panoIds"][row]).strip() for row in rows]
        np.testing.assert_array_equal(pairs.utm, mat["utm"][rows])
        assert pairs.utm.dtype == np.float64
        assert os.path.exists(pairs.sat_paths[0]) and os.path.exists(pairs.grd_paths[0])


def test_a_batch_holds_the_files_pixels_in_the_asked_order(towns):
    pairs = CVUSA(towns / "Data").pairs("train")
    order = [5, 3, 17, 2, 11]
    read = list(batches(PairImages.of(pairs, (SHAPE, (56, 308))), order, 2))
    assert [len(batch.sat) for batch in read] == [2, 2, 1]
    sat, grd = read[1].sat, read[1].grd
    tile = read_image(str(towns / "Data/CVUSA/bingmap/19/0000018.jpg"))
    np.testing.assert_array_equal(sat[0], polar_map(tile))
    np.testing.assert_array_equal(grd[1], cv2.resize(read_image(pairs.grd_paths[2]), (308, 56), interpolation=cv2.INTER_AREA))


def test_a_reader_that_is_left_early_ends(towns):
    pairs = CVUSA(towns / "Data").pairs("train")
    before = set(threading.enumerate())
    reader = batches(PairImages.of(pairs, (SHAPE, SHAPE)), range(24), 1)
    next(reader)
    threads = set(threading.enumerate()) - before
    assert threads
    reader.close()
    assert not any(thread.is_alive() for thread in threads)


def test_an_epochs_order_is_a_permutation_that_depends_on_seed_and_epoch():
    orders = [epoch_order(100, epoch, seed).tolist() for epoch, seed in ((1, 0), (2, 0), (1, 1))]
    assert all(sorted(order) == list(range(100)) for order in orders)
    assert orders[0] == epoch_order(100, 1, 0).tolist()
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_missing_files_are_counted_named_and_can_be_skipped(own_towns):
    dataset = CVUSA(own_towns / "Data")
    pairs = dataset.pairs("train")
    for path in pairs.sat_paths[:7] + pairs.grd_paths[6:8]:
        os.unlink(path)
    with pytest.raises(UserError) as error:
        check_files(pairs, (SHAPE, SHAPE))
    text = str(error.value)
    assert "9 files are missing" in text and "8 of 24 pairs" in text
    assert text.count(".png") == 5 and "data_preparation.py --dataset cvusa" in text and "--skip_missing" in text
    rest, note = check_files(pairs, (SHAPE, SHAPE), skip_missing=True)
    assert rest.ids == pairs.ids[8:] and "16 pairs remain" in note


def test_a_prepared_file_whose_source_is_missing_too_is_not_advised_to_be_prepared(own_towns):
    dataset = CVACT(own_towns / "Data")
    pairs = dataset.pairs("train")
    for path in (pairs.panorama_paths[0], pairs.grd_paths[0]):
        os.unlink(path)
    with pytest.raises(UserError, match=f"1 files are missing, .*; get 1 images from the dataset, .*{pairs.ids[0]}") as error:
        check_files(pairs, (SHAPE, SHAPE))
    assert "data_preparation" not in str(error.value)
    os.unlink(pairs.sat_paths[1])
    with pytest.raises(UserError, match="get 1 images from the dataset, .*, and run: python data_preparation.py"):
        check_files(pairs, (SHAPE, SHAPE))


@pytest.mark.parametrize(
    "folder",
    [
        "Data",
        "Data/OriNet_CVACT/CVACT_orientations",
        "OriNet_CVACT/CVACT_orientations",
        "script/OriNet_CVACT/CVACT_orientations",
    ],
)
def test_act_data_is_found_where_it_comes_to_lie(own_towns, folder):
    expected = CVACT(own_towns / "Data").pairs("train").ids
    (own_towns / folder).mkdir(parents=True, exist_ok=True)
    (own_towns / "Data/ANU_data_small/ACT_data.mat").rename(own_towns / folder / "ACT_data.mat")
    assert CVACT(own_towns / "Data").pairs("train").ids == expected
    (own_towns / folder / "ACT_data.mat").unlink()
    with pytest.raises(
        UserError, match="ANU_data_small/ACT_data.mat: not found .nor .*Data/ACT_data.mat, .*OriNet.*--act_data"
    ):
        CVACT(own_towns / "Data").pairs("train")


def test_cvusa_as_it_is_handed_out_is_recognised(own_towns):
    """Each message says the next move, until the pairs are read."""
    data = own_towns / "Data"
    expected = CVUSA(data).pairs("train").ids
    (data / "CVUSA/splits").rename(data / "splits")
    (data / "CVUSA").rename(data / "CVPR_subset")
    with pytest.raises(UserError, match="rename '.*Data/CVPR_subset' to '.*Data/CVUSA'"):
        CVUSA(data).pairs("train")
    with pytest.raises(UserError, match="rename '.*Data/CVPR_subset' to '.*Data/CVUSA'"):
        data_preparation.main(["--data_dir", str(data), "--dataset", "cvusa"])
    (data / "CVPR_subset").rename(data / "CVUSA")
    with pytest.raises(UserError, match="move '.*Data/splits' to '.*Data/CVUSA'"):
        CVUSA(data).pairs("train")
    with tarfile.open(data / "CVUSA/splits.tar.gz", "w:gz") as archive:
        archive.add(data / "splits", "splits")
    shutil.rmtree(data / "splits")
    with pytest.raises(UserError, match="unpack '.*Data/CVUSA/splits.tar.gz' in '.*Data/CVUSA'"):
        CVUSA(data).pairs("train")
    shutil.unpack_archive(data / "CVUSA/splits.tar.gz", data / "CVUSA")
    assert CVUSA(data).pairs("train").ids == expected


@pytest.mark.parametrize(
    "row",
    [
        "a,b,c",
        "bingmap/19/1.jpg,../secret.jpg",
        "bingmap/19/1.jpg,streetview/../../../secret.jpg",
        "bingmap\\19\\1.jpg,..\\x.jpg",
        "bingmap/../../CVUSA/x.jpg,streetview/panos/1.jpg",
        f"/{5000 * 'x'},y",
    ],
)
def test_a_row_that_does_not_parse_or_leaves_the_folder_is_named(own_towns, row):
    path = own_towns / "Data/CVUSA/splits/train-19zl.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:4], row, *lines[4:]]))
    with pytest.raises(UserError, match="row 5") as error:
        CVUSA(own_towns / "Data").pairs("train")
    assert len(str(error.value)) < 500


def resized(path, height, width):
    cv2.imwrite(path, cv2.resize(cv2.imread(path), (width, height), interpolation=cv2.INTER_AREA))


def test_images_of_another_aspect_ratio_and_smaller_ones_are_counted_and_refused(own_towns):
    pairs = CVUSA(own_towns / "Data").pairs("train")
    for path, size in zip(pairs.grd_paths, ((224, 1232), (60, 330), (90, 495), (91, 500), (50, 274)), strict=False):
        resized(path, *size)  # as whole pixels allow
    assert check_files(pairs, ((32, 128), (32, 128)))[0].ids == pairs.ids
    resized(pairs.grd_paths[7], 112, 600)
    resized(pairs.sat_paths[9], 112, 500)
    tile = CVACT(own_towns / "Data").pairs("train", AERIAL)
    resized(tile.sat_paths[3], 112, 120)
    resized(tile.grd_paths[5], 112, 224)  # as if it had never been prepared
    tiny = CVUSA(own_towns / "Data").pairs("val")
    resized(tiny.sat_paths[3], 56, 308)
    with pytest.raises(UserError, match=r"1 of 20 .*0000028.png: 56x308 pixels, smaller than .* 112x616 \(--height"):
        check_files(tiny, (SHAPE, SHAPE))
    for split, shape, published in ((pairs, (32, 128), "112x616"), (tile, (64, 64), "1200x1200")):
        with pytest.raises(UserError, match=f"2 of 48 images .* not the aspect ratio of the dataset's {published}"):
            check_files(split, (shape, (32, 128)))
