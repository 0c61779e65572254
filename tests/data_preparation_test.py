"""Preparation, run as a user does: the published pixels, whole files only, and nothing mixed or lost."""

import errno
import fcntl
import functools
import json
import os
import random
import re
import shutil
import signal
import struct
import time
from unittest import mock

import cv2
import numpy as np
import pytest
from conftest import complains, contents, refuses, start, succeeds, wait_until
from golden import GOLDEN, recipe

import data_preparation
from safa.datasets.preparation import street_view
from safa.runtime.files import locked, open_whole, partial_path, remove_abandoned


def prepare(folder, *arguments):
    """Prepare in this process: the exit code."""
    return data_preparation.main(["--data_dir", str(folder / "Data"), "--workers", "1", *arguments])


@pytest.fixture
def folder(tmp_path):
    """CVUSA's folder of tiles."""
    folder = tmp_path / "Data/CVUSA/bingmap/19"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A folder with lossless tiles of the dataset's size. Not to be changed."""
    folder, image = tmp_path_factory.mktemp("drawn"), recipe.aerial_image(750)
    for number in range(20):
        cv2.imwrite(str(folder / f"{number:07}.png"), np.roll(image, number, axis=0))
    return folder


@pytest.fixture
def tiles(drawn, folder):
    """CVUSA's folder with links to them."""
    return shutil.copytree(drawn, folder, copy_function=os.link, dirs_exist_ok=True)


@pytest.fixture
def output(tmp_path):
    return tmp_path / "Data/CVUSA/polarmap/19"


def test_prepared_files_hold_the_published_pixels_for_any_number_of_workers(tiles, tmp_path, output):
    succeeds("data_preparation.py", dataset="cvusa", workers=2, cwd=tmp_path)
    polar = cv2.imread(str(output / "0000000.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(polar, np.load(GOLDEN / "polar_transform.npz")["polar_750"])
    prepared = contents(output, ".lock")
    assert prepare(tmp_path, "--overwrite") == 0 and contents(output, ".lock") == prepared and len(prepared) == 21
    panorama = np.random.default_rng(0).integers(0, 256, (832, 1664, 3), np.uint8)  # CVACT's: rows 208 to 623, by area
    expected = cv2.resize(panorama[208:624], (616, 112), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(street_view(panorama), expected)


def test_a_run_that_is_killed_leaves_whole_files_and_goes_on(tiles, tmp_path, output):
    for number in range(20):
        os.link(tiles / "0000000.png", tiles / f"more{number}.png")
    moments = random.Random(0)
    for finished, workers in (1, 2), (20, 1):
        process = start("data_preparation.py", dataset="cvusa", workers=workers, cwd=tmp_path)
        wait_until(lambda enough=finished: len(list(output.glob("*.png"))) >= enough, process)
        time.sleep(moments.random() / 50)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL and finished <= len(list(output.glob("*.png"))) < 40
        assert all(cv2.imread(str(path)) is not None for path in output.glob("*.png"))
    (output / "0000003.png").write_bytes(b"")  # a machine without power may leave a name without content
    assert prepare(tmp_path) == 0
    files = contents(output, ".lock")
    assert len(files) == 41 and not any(name.endswith(".partial") for name in files)
    assert prepare(tmp_path, "--overwrite") == 0 and contents(output, ".lock") == files


def test_maps_with_and_without_stretch_are_never_mixed(tiles, tmp_path, output):
    assert prepare(tmp_path) == 0
    stretched = contents(output, ".lock")
    assert json.loads((output / "preparation.json").read_text()) == {"stretch": True}
    refuses("--overwrite", prepare, tmp_path, "--no_stretch")
    assert contents(output, ".lock") == stretched and prepare(tmp_path, "--no_stretch", "--overwrite") == 0
    assert json.loads((output / "preparation.json").read_text()) == {"stretch": False}
    rows = cv2.imread(str(output / "0000000.png"))[[0, 37, 74, 111]]
    golden = np.load(GOLDEN / "polar_transform.npz")["polar_750_unstretched_rows"]
    np.testing.assert_array_equal(rows, np.floor(golden + 0.5))
    refuses("add --no_stretch", prepare, tmp_path)
    os.unlink(output / "preparation.json")  # as of published maps, perhaps in a read-only folder
    assert prepare(tmp_path) == 0 and not (output / "preparation.json").exists()


def test_without_a_dataset_all_that_are_there_are_prepared_also_from_tiles_of_another_size(towns, tmp_path, capsys):
    assert prepare(towns, "--prepared_dir", str(tmp_path)) == 0
    assert "(the dataset's have 1200x1200)" in capsys.readouterr().out
    for folder in ("CVUSA/polarmap/19", "CVACT/polarmap", "CVACT/streetview"):
        assert contents(tmp_path / folder, ".lock") == contents(towns / "Data" / folder, ".lock")
    assert not (tmp_path / "CVACT_test").exists()


def test_mistakes_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words, expected in (
        ("--dataset cvusa", "Data/CVUSA/bingmap/19"),
        ("--dataset cvact --data_dir nowhere", "nowhere/ANU_data_small/satview_polish"),
        ("", "no dataset in it"),
        ("--dataset kitti", "'kitti'"),
        ("--dataset cvusa --worker 2", "--worker 2"),
    ):
        refuses(expected, data_preparation.main, words.split())
    assert not os.listdir(tmp_path)
    (tmp_path / "Data/CVUSA/bingmap/19").mkdir(parents=True)
    assert "names end in .jpg, .jpeg, .png;" in complains("data_preparation.py", dataset="cvusa", cwd=tmp_path)


def test_what_is_no_image_or_has_an_impossible_name_ends_only_its_own_preparation(folder, tmp_path, output, capsys):
    tiles, whole = folder, {"0", "z", "taken", 240 * "n", 83 * "字"}
    image = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))[1].tobytes()
    for name in whole:
        (tiles / f"{name}.jpg").write_bytes(image)
    (tiles / "folder.jpg").mkdir()
    os.symlink("/dev/null", tiles / "device.jpg")
    frame = image.index(b"\xff\xc0")
    (tiles / "bomb.jpg").write_bytes(image[: frame + 5] + struct.pack(">HH", 65500, 65500) + image[frame + 9 :])
    (tiles / "cut.jpg").write_bytes(image[: len(image) // 2])
    (tiles / "empty.jpg").write_bytes(b"")
    for name, size in (("pixel.png", (1, 1, 3)), ("oblong.png", (64, 60, 3))):
        cv2.imwrite(str(tiles / name), np.zeros(size, np.uint8))
    (output / "taken.png").mkdir(parents=True)
    assert prepare(tmp_path) == 1
    complaints = capsys.readouterr().err
    expected = {"bomb": "65500x65500 pixels", "pixel": "1x1 pixels instead of 64x64", "oblong": "64x60 pixels"}
    expected |= dict.fromkeys(("folder", "device"), "a folder, pipe or device") | {"taken": "Is a directory"}
    expected |= {"cut": "truncated", "empty": "empty"}
    for name, text in expected.items():
        assert re.search(rf"{name}\.\w+: {text}", complaints), name
    assert "8 images could not be prepared" in complaints and {path.stem for path in output.glob("*.png")} == whole
    assert not list(output.glob("*.partial"))


def test_a_run_waits_for_the_one_that_prepares_the_same_folder(tiles, tmp_path, output, capfd):
    process = start("data_preparation.py", dataset="cvusa", workers=1, cwd=tmp_path)
    wait_until(lambda: list(output.glob("*.png")), process)
    assert prepare(tmp_path) == 0 and "another run is preparing there; waiting" in (printed := capfd.readouterr().out)
    assert "0 prepared" in printed and "20 were there already" in printed
    _, complaints = process.communicate()
    assert process.returncode == 0, complaints


def open_as_another_user(opened, path, flags, mode):
    """`os.open` in a group's folder, whose files only their owner may write."""
    if flags & os.O_APPEND:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return opened(path, flags, mode)


def test_half_written_files_go_when_a_lock_shows_that_nobody_writes_them_or_after_a_day(tmp_path, monkeypatch):
    paths = [partial_path(str(tmp_path / name)) for name in ("a.png", "b.png", 80 * "字")] + [str(tmp_path / "film.partial")]
    for path in paths:
        open(path, "wb").close()
        os.utime(path, (time.time() - 25 * 3600 * (path != paths[0]),) * 2)
    fresh, mine = os.path.basename(paths[0]), "film.partial"
    with open(tmp_path / ".lock", "w") as held:  # by another process, which is killed then
        fcntl.flock(held, fcntl.LOCK_EX)
        remove_abandoned(str(tmp_path))
        assert sorted(os.listdir(tmp_path)) == sorted([".lock", fresh, mine])
        refuses("wait for the other", locked(str(tmp_path), "wait for the other").__enter__)
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", functools.partial(open_as_another_user, os.open))
            refuses("wait for the other", locked(str(tmp_path), "wait for the other").__enter__)
        assert fresh in os.listdir(tmp_path)
    with locked(str(tmp_path), "wait", wait=True):
        assert sorted(os.listdir(tmp_path)) == [".lock", mine]


@pytest.mark.parametrize("function, number", [("fcntl.flock", errno.ENOLCK), ("os.open", errno.EROFS)])
def test_where_nothing_can_be_locked_work_goes_on_and_no_fresh_file_is_removed(tmp_path, monkeypatch, function, number):
    monkeypatch.setattr(function, mock.Mock(side_effect=OSError(number, os.strerror(number))))
    with open_whole(str(tmp_path / "a.png")) as file, locked(str(tmp_path), "refused"):
        file.write(b"whole")
    assert (tmp_path / "a.png").read_bytes() == b"whole"
