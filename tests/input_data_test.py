"""Pairs and batches hold what the files hold, or nothing."""
import dataclasses
import os
import threading

import cv2
import numpy as np
import pytest
import scipy.io

from data_preparation import polar_map
from errors import UserError
from image_files import ImageError, image_size, read_image
from input_data import CVACT, CVUSA, batches, checked, epoch_order

SHAPE = 112, 616


def one_pair(folder, pairs, sat_path):
    return dataclasses.replace(pairs.take([0]), sat_paths=[str(sat_path)])


def test_cvusa_pairs_are_the_rows_of_the_csv_file(towns):
    pairs = CVUSA(towns / "Data").pairs("train")
    assert len(pairs) == 24 and pairs.ids[0] == "0000001" and pairs.utm is None
    assert pairs.sat_paths[0].endswith(os.path.join("CVUSA", "polarmap/19", "0000001.png"))
    assert pairs.grd_paths[0].endswith(os.path.join("CVUSA", "streetview/panos/0000001.jpg"))
    assert CVUSA(towns / "Data").pairs("val", polar=0).sat_paths[0].endswith("bingmap/19/0000025.jpg")


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
    read = list(batches(pairs, order, 2, SHAPE, (56, 308)))
    assert [rows.tolist() for _, _, rows in read] == [[5, 3], [17, 2], [11]]
    sat, grd, _ = read[1]
    tile = read_image(str(towns / "Data/CVUSA/bingmap/19/0000018.jpg"))
    np.testing.assert_array_equal(sat[0], polar_map(tile))
    np.testing.assert_array_equal(grd[1], cv2.resize(read_image(pairs.grd_paths[2]), (308, 56),
                                                     interpolation=cv2.INTER_AREA))


def test_an_image_that_cannot_be_read_never_reaches_a_batch(towns, tmp_path):
    pairs = CVUSA(towns / "Data").pairs("train")
    whole = open(pairs.grd_paths[0], "rb").read()
    for number, content in enumerate((b"", b"<html>not found</html>", whole[:len(whole) // 2], whole[:-2])):
        path = tmp_path / f"{number}.jpg"
        path.write_bytes(content)
        with pytest.raises(UserError, match=f"{number}.jpg"):
            list(batches(one_pair(towns, pairs, path), [0], 1, SHAPE, SHAPE))


def test_a_reader_that_is_left_early_ends(towns):
    pairs = CVUSA(towns / "Data").pairs("train")
    before = set(threading.enumerate())
    reader = batches(pairs, range(24), 1, SHAPE, SHAPE)
    next(reader)
    threads = set(threading.enumerate()) - before
    assert threads
    reader.close()
    assert not any(thread.is_alive() for thread in threads)


def test_a_jpeg_that_decodes_only_in_part_is_refused_and_a_grey_one_is_not(tmp_path):
    path = str(tmp_path / "a.jpg")
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    whole = cv2.imencode(".jpg", noise)[1].tobytes()
    for part in (0.3, 0.5, 0.9):
        with open(path, "wb") as file:
            file.write(whole[:int(part * len(whole))] + whole[-2:])
        with pytest.raises(ImageError, match="damaged"):
            read_image(path)
    cv2.imwrite(path, np.full((64, 96, 3), 128, np.uint8))
    assert (read_image(path) == 128).all()


@pytest.mark.parametrize("name, padding", [("a.jpg", 0), ("a.png", 0), ("a.jpg", 9000), ("a.jpg", 70000)])
def test_the_size_comes_from_the_header_and_a_cut_file_is_noticed_anywhere(tmp_path, name, padding):
    path = str(tmp_path / name)
    content = cv2.imencode(name[1:], np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8))[1].tobytes()
    if padding:  # a long header, as cameras write
        content = content[:2] + b"\xff\xe1" + (30002).to_bytes(2, "big") + bytes(30000) + content[2:] + bytes(padding)
    with open(path, "wb") as file:
        file.write(content)
    assert image_size(path) == (60, 90)
    whole = len(content) - padding
    for length in (1, 10, 30, whole // 4, whole // 2, whole - 3):
        with open(path, "wb") as file:
            file.write(content[:length])
        with pytest.raises(ImageError, match=name):
            image_size(path)


def test_an_epochs_order_is_a_permutation_that_depends_on_seed_and_epoch():
    orders = [epoch_order(100, epoch, seed).tolist() for epoch, seed in ((1, 0), (2, 0), (1, 1))]
    assert all(sorted(order) == list(range(100)) for order in orders)
    assert orders[0] == epoch_order(100, 1, 0).tolist()
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_missing_files_are_counted_named_and_can_be_skipped(own_towns, capsys):
    dataset = CVUSA(own_towns / "Data")
    pairs = dataset.pairs("train")
    for path in pairs.sat_paths[:7] + pairs.grd_paths[6:8]:
        os.unlink(path)
    with pytest.raises(UserError) as error:
        checked(pairs, dataset, SHAPE, SHAPE)
    text = str(error.value)
    assert "9 files are missing" in text and "8 of 24 pairs" in text
    assert text.count(".png") == 5 and "data_preparation.py --dataset cvusa" in text and "--skip_missing" in text
    rest = checked(pairs, dataset, SHAPE, SHAPE, skip_missing=True)
    assert rest.ids == pairs.ids[8:] and "16 pairs remain" in capsys.readouterr().out


@pytest.mark.parametrize("row", ["bingmap/19/0000001.jpg", "a,b,c", "0000001.jpg,streetview/panos/0000001.jpg"])
def test_a_row_that_does_not_parse_is_named(own_towns, row):
    path = own_towns / "Data/CVUSA/splits/train-19zl.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:4], row, *lines[4:]]))
    with pytest.raises(UserError, match="row 5"):
        CVUSA(own_towns / "Data").pairs("train")


def test_a_mat_file_that_is_none_is_refused(own_towns):
    path = own_towns / "Data/ANU_data_small/ACT_data.mat"
    whole = path.read_bytes()
    for content in (b"", b"<html>", whole[:len(whole) // 2], whole[:200]):
        path.write_bytes(content)
        with pytest.raises(UserError, match="ACT_data.mat"):
            CVACT(own_towns / "Data").pairs("train")
    scipy.io.savemat(path, {"panoIds": ["a" * 22], "utm": np.zeros((1, 2)), "trainSet": {"trainInd": [[2]]}})
    with pytest.raises(UserError, match="do not fit together"):
        CVACT(own_towns / "Data").pairs("train")
    for utm, index in ((np.full((1, 2), np.nan), 1), (np.zeros((1, 2)), 1.5)):
        scipy.io.savemat(path, {"panoIds": ["a" * 22], "utm": utm, "trainSet": {"trainInd": [[index]]}})
        with pytest.raises(UserError, match="not finite"):
            CVACT(own_towns / "Data").pairs("train")
