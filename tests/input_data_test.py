"""Pairs and batches hold what the files hold, or nothing, wherever and however users keep the files."""

import functools
import os
import shutil
import subprocess
import tarfile
import threading

import cv2
import numpy as np
import pytest
import scipy.io
from conftest import TINY, contents, refuses, run, succeeds
from forked_scripts import no_file_grows_beyond

import data_preparation
from input_data import batches, epoch_order, image_batches
from safa.datasets import pair_images
from safa.datasets.corruptions import published_panoramas
from safa.datasets.cvact import CVACT
from safa.datasets.cvusa import CVUSA
from safa.datasets.dataset import AERIAL, POLAR
from safa.datasets.file_checks import check_files
from safa.datasets.image_files import read_image
from safa.datasets.pair_images import PairImages
from safa.datasets.preparation import polar_map

SHAPE = 112, 616
SMALLER = (32, 128), (32, 128)


def test_pairs_are_the_rows_of_cvusas_csv_file_and_the_1_based_indices_of_cvacts_mat_file(towns):
    pairs = CVUSA(towns / "Data").pairs("train")
    assert len(pairs) == 24 and pairs.ids[0] == "0000001" and pairs.utm is None
    assert pairs.sat_paths[0].endswith(os.path.join("CVUSA", "polarmap/19", "0000001.png"))
    assert pairs.grd_paths[0].endswith(os.path.join("CVUSA", "streetview/panos/0000001.jpg"))
    assert CVUSA(towns / "Data").pairs("val", "aerial").sat_paths[0].endswith("bingmap/19/0000025.jpg")
    mat = scipy.io.loadmat(towns / "Data/ANU_data_small/ACT_data.mat")
    for split in "train", "val":
        pairs = CVACT(towns / "Data").pairs(split)
        rows = mat[f"{split}Set"][f"{split}Ind"][0, 0].ravel() - 1
        assert pairs.ids == [str(mat["panoIds"][row]).strip() for row in rows] and pairs.utm.dtype == np.float64
        np.testing.assert_array_equal(pairs.utm, mat["utm"][rows])
        assert os.path.exists(pairs.sat_paths[0]) and os.path.exists(pairs.grd_paths[0])


def test_a_batch_holds_the_files_pixels_in_the_asked_order_and_a_reader_that_is_left_early_ends(towns):
    pairs = CVUSA(towns / "Data").pairs("train")
    read = list(batches(PairImages.of(pairs, (SHAPE, (56, 308))), [5, 3, 17, 2, 11], 2))
    assert [len(batch.sat) for batch in read] == [2, 2, 1]
    tile, panorama = (read_image(path) for path in (pairs.tile_paths[17], pairs.grd_paths[2]))
    np.testing.assert_array_equal(read[1].sat[0], polar_map(tile))
    np.testing.assert_array_equal(read[1].grd[1], cv2.resize(panorama, (308, 56), interpolation=cv2.INTER_AREA))
    before = set(threading.enumerate())
    reader = batches(PairImages.of(pairs, (SHAPE, SHAPE)), range(24), 1)
    next(reader)
    assert (threads := set(threading.enumerate()) - before)
    reader.close()
    assert not any(thread.is_alive() for thread in threads)
    grey = type("Images", (), {"shape": SHAPE, "dtype": np.uint8, "read": lambda self, row: panorama[:, :, :1]})
    with pytest.raises(ValueError):  # it would be broadcast
        next(image_batches(grey(), [0], 1))
    # An epoch's order is a permutation that depends on seed and epoch.
    orders = [epoch_order(100, epoch, seed).tolist() for epoch, seed in ((1, 0), (2, 0), (1, 1))]
    assert all(sorted(order) == list(range(100)) for order in orders) and orders[0] == epoch_order(100, 1, 0).tolist()
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_missing_files_are_counted_named_and_can_be_skipped(own_towns):
    pairs = CVUSA(own_towns / "Data").pairs("train")
    for path in pairs.sat_paths[:7] + pairs.grd_paths[6:8]:
        os.unlink(path)
    text = refuses("9 files are missing.*8 of 24 pairs", check_files, pairs, (SHAPE, SHAPE))
    assert text.count(".png") == 5 and "data_preparation.py --dataset cvusa" in text and "--skip_missing" in text
    rest, note = check_files(pairs, (SHAPE, SHAPE), skip_missing=True)
    assert rest.ids == pairs.ids[8:] and "16 pairs remain" in note
    # A prepared file whose source is missing too: preparing does not help.
    data = (own_towns / "Data").rename(own_towns / "My Data")
    pairs = CVACT(data).pairs("train")
    for path in (pairs.panorama_paths[0], pairs.grd_paths[0]):
        os.unlink(path)
    expected = f"1 files are missing, .*; get 1 images from the dataset, .*{pairs.ids[0]}"
    assert "data_preparation" not in refuses(expected, check_files, pairs, (SHAPE, SHAPE))
    os.unlink(pairs.sat_paths[1])
    expected = "get 1 images from the dataset, .*, and run: python data_preparation.py .* --data_dir '.*My Data',"
    refuses(expected, check_files, pairs, (SHAPE, SHAPE))


def test_act_data_is_found_where_it_comes_to_lie(own_towns):
    path = own_towns / "Data/ANU_data_small/ACT_data.mat"
    expected = CVACT(own_towns / "Data").pairs("train").ids
    for place in "Data", *(f"{above}OriNet_CVACT/CVACT_orientations" for above in ("Data/", "", "script/")):
        (own_towns / place).mkdir(parents=True, exist_ok=True)
        path = path.rename(own_towns / place / "ACT_data.mat")
        assert CVACT(own_towns / "Data").pairs("train").ids == expected
    path.unlink()
    expected = "small/ACT_data.mat: not found .nor .*Data/ACT_data.mat, .*OriNet.*--act_data"
    refuses(expected, CVACT(own_towns / "Data").pairs, "train")


def test_cvusa_as_it_is_handed_out_is_recognised(own_towns):
    """Each message says the next move, until the pairs are read."""
    data = own_towns / "Data"
    expected = CVUSA(data).pairs("train").ids
    (data / "CVUSA/splits").rename(data / "splits")
    (data / "CVUSA").rename(data / "CVPR_subset")
    remedy = "rename '.*Data/CVPR_subset' to '.*Data/CVUSA'"
    refuses(remedy, CVUSA(data).pairs, "train")
    refuses(remedy, data_preparation.main, ["--data_dir", str(data), "--dataset", "cvusa"])
    (data / "CVPR_subset").rename(data / "CVUSA")
    refuses("move '.*Data/splits' to '.*Data/CVUSA'", CVUSA(data).pairs, "train")
    with tarfile.open(data / "CVUSA/splits.tar.gz", "w:gz") as archive:
        archive.add(data / "splits", "splits")
    shutil.rmtree(data / "splits")
    refuses("unpack '.*Data/CVUSA/splits.tar.gz' in '.*Data/CVUSA'", CVUSA(data).pairs, "train")
    shutil.unpack_archive(data / "CVUSA/splits.tar.gz", data / "CVUSA")
    assert CVUSA(data).pairs("train").ids == expected


def test_lists_are_read_as_other_programs_write_them_and_bad_rows_are_named(own_towns):
    dataset, path = CVUSA(str(own_towns / "Data")), own_towns / "Data/CVUSA/splits/train-19zl.csv"
    before, text = dataset.pairs("train"), path.read_text()
    quoted = "\n,,\n".join(",".join(f' "{field}" ' for field in line.split(",")) for line in text.splitlines())
    for changed in text.replace("\n", "\r\n"), "\ufeff" + text, text.replace("/", "\\"), quoted:
        path.write_bytes(changed.encode())
        after = dataset.pairs("train")
        assert (after.ids, after.sat_paths, after.grd_paths) == (before.ids, before.sat_paths, before.grd_paths)
    lines = text.splitlines()
    for row in (
        "a,b,c",
        "bingmap/19/1.jpg,../secret.jpg",
        "bingmap/19/1.jpg,streetview/../../../secret.jpg",
        "bingmap\\19\\1.jpg,..\\x.jpg",
        "bingmap/../../CVUSA/x.jpg,streetview/panos/1.jpg",
        f"/{5000 * 'x'},y",
    ):
        path.write_text("\n".join([*lines[:4], row, *lines[4:]]))
        assert len(refuses("line 5", dataset.pairs, "train")) < 500


def resized(path, height, width):
    cv2.imwrite(path, cv2.resize(cv2.imread(path), (width, height), interpolation=cv2.INTER_AREA))


def test_images_of_another_aspect_ratio_and_smaller_ones_are_counted_and_refused(own_towns):
    pairs = CVUSA(own_towns / "Data").pairs("train")
    for path, size in zip(pairs.grd_paths, ((224, 1232), (60, 330), (90, 495), (91, 500), (50, 274)), strict=False):
        resized(path, *size)  # as whole pixels allow
    assert check_files(pairs, SMALLER)[0].ids == pairs.ids
    resized(pairs.grd_paths[7], 112, 600)
    resized(pairs.sat_paths[9], 112, 500)
    tile = CVACT(own_towns / "Data").pairs("train", AERIAL)
    resized(tile.sat_paths[3], 112, 120)
    resized(tile.grd_paths[5], 112, 224)  # as if it had never been prepared
    tiny = CVUSA(own_towns / "Data").pairs("val")
    resized(tiny.sat_paths[3], 56, 308)
    expected = r"1 of 20 .*0000028.png: 56x308 pixels, smaller than .* 112x616 \(--height"
    refuses(expected, check_files, tiny, (SHAPE, SHAPE))
    for split, shape, published in ((pairs, (32, 128), "112x616"), (tile, (64, 64), "1200x1200")):
        expected = f"2 of 48 images .* not the aspect ratio of the dataset's {published}"
        refuses(expected, check_files, split, (shape, (32, 128)))


def test_folders_with_spaces_other_letters_and_links_that_must_not_be_written_to(towns, tmp_path):
    data = tmp_path / "Daten für Zürich 東京"
    shutil.copytree(towns / "Data", data, ignore=shutil.ignore_patterns("polarmap", "CVACT"))
    os.symlink(data, tmp_path / "link")
    before = contents(data)
    subprocess.run(["chmod", "-R", "a-w", data], check=True)
    given = {"data_dir": "link", "prepared_dir": "my prepared files", "cwd": tmp_path}
    succeeds("data_preparation.py", dataset="all", workers=1, **given)
    succeeds("train_cvact.py", **TINY, network_type="VGG_gp", epochs=1, **given)
    succeeds("test_cvact.py", network_type="VGG_gp", **given)
    assert contents(data) == before
    assert contents(tmp_path / "my prepared files/CVUSA/polarmap") == contents(towns / "Data/CVUSA/polarmap")
    subprocess.run(["chmod", "-R", "u+w", data], check=True)  # so that the folder can be removed


def test_upper_case_extensions_are_found(own_towns):
    for folder in ("CVUSA/bingmap/19", "CVUSA/streetview/panos", "ANU_data_small/satview_polish", "ANU_data_small/streetview"):
        for path in (own_towns / "Data" / folder).iterdir():
            path.rename(path.with_suffix(".JPG"))
            assert not path.exists()  # a file system that ignores the case would show nothing
    polar = own_towns / "Data/CVUSA/polarmap"
    expected = contents(polar)
    shutil.rmtree(polar)
    assert "34 prepared" in succeeds("data_preparation.py", dataset="cvusa", workers=1, cwd=own_towns)
    assert contents(polar) == expected
    for kind, reference in ((CVUSA, POLAR), (CVACT, AERIAL)):
        pairs, _ = check_files(kind(str(own_towns / "Data")).pairs("train", reference), SMALLER)
        images = PairImages.of(pairs, SMALLER)
        assert len(pairs) == 24 and images.sat.read(0).any() and images.grd.read(0).any()
        assert all(map(os.path.exists, pairs.tile_paths))  # which figures show
        assert check_files(published_panoramas(pairs), SMALLER)[0].ids == pairs.ids
    os.unlink(pairs.panorama_paths[0])
    refuses("1 files are missing", check_files, published_panoramas(pairs), SMALLER)


def test_a_disk_that_fills_up_leaves_whole_files_and_one_line(own_towns):
    polar = own_towns / "Data/CVUSA/polarmap"
    expected = contents(polar)
    shutil.rmtree(polar)
    full_disk = functools.partial(no_file_grows_beyond, max(map(len, expected.values())) - 1)
    process = run("data_preparation.py", dataset="cvusa", workers=1, before=full_disk, cwd=own_towns)
    assert process.returncode == 2, process.stderr
    line = process.stderr.strip().splitlines()[-1]
    assert ".png: File too large" in line and "free space" in line
    finished = contents(polar)
    assert 0 < len(finished) < len(expected) and all(expected[path] == content for path, content in finished.items())
    succeeds("data_preparation.py", dataset="cvusa", workers=1, cwd=own_towns)
    assert contents(polar) == expected


def test_images_kept_in_memory_give_the_same_batches_and_are_decoded_once(towns, monkeypatch):
    pairs = CVACT(str(towns / "Data")).pairs("train")
    plain, cached = (PairImages.of(pairs, SMALLER, cached=cached) for cached in (False, True))
    order = np.random.default_rng(0).permutation(24)
    for _ in range(2):
        found, expected = (list(batches(images, order, 5)) for images in (cached, plain))
        assert len(found) == len(expected) == 5
        for one, other in zip(found, expected, strict=True):
            assert np.array_equal(one.sat, other.sat) and np.array_equal(one.grd, other.grd)
    monkeypatch.setattr(pair_images, "read_input", None)  # nothing is decoded again
    assert len(list(batches(cached, order, 5))) == 5
    monkeypatch.setattr(pair_images, "read_input", lambda path, shape: np.full((*shape, 3), 0.7))
    with pytest.raises(TypeError, match="same_kind"):  # nor are fractions cut off
        next(batches(plain, order, 5))
