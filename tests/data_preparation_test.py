"""Preparation, run as a user does: the published pixels, whole files only, and nothing mixed or lost."""
import json
import os
import platform
import random
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from conftest import complains, run, start, succeeds
from golden import recipe
from golden_numbers import GOLDEN

from data_preparation import street_view
from image_files import remove_abandoned


def contents(folder):
    return {name: (folder / name).read_bytes() for name in sorted(os.listdir(folder))}


@pytest.fixture
def tiles(tmp_path):
    """A CVUSA folder with lossless tiles of the dataset's size."""
    folder = tmp_path / "Data/CVUSA/bingmap/19"
    folder.mkdir(parents=True)
    for number in range(20):
        cv2.imwrite(str(folder / f"{number:07}.png"), np.roll(recipe.aerial_image(750), number, axis=0))
    return folder


def test_prepared_files_hold_the_published_pixels(tiles, tmp_path):
    succeeds("data_preparation.py", "--dataset", "cvusa", cwd=tmp_path)
    polar = cv2.imread(str(tmp_path / "Data/CVUSA/polarmap/19/0000000.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(polar, np.load(GOLDEN / "polar_transform.npz")["polar_750"])


def test_files_are_the_same_bytes_for_any_number_of_workers(tiles, tmp_path):
    output = tmp_path / "Data/CVUSA/polarmap/19"
    prepared = []
    for workers in (1, 2):
        succeeds("data_preparation.py", "--dataset", "cvusa", "--workers", workers, "--overwrite", cwd=tmp_path)
        prepared.append(contents(output))
    assert prepared[0] == prepared[1] and len(prepared[0]) == 21


def test_a_run_that_is_killed_leaves_whole_files_and_goes_on(tiles, tmp_path):
    output = tmp_path / "Data/CVUSA/polarmap/19"
    for number in range(100):
        os.link(tiles / "0000000.png", tiles / f"more{number}.png")
    moments = random.Random(0)
    for finished in (1, 40, 80):
        process = start("data_preparation.py", "--dataset", "cvusa", cwd=tmp_path)
        while process.poll() is None and len(list(output.glob("*.png"))) < finished:
            time.sleep(0.001)
        time.sleep(moments.random() / 50)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL and finished <= len(list(output.glob("*.png"))) < 120
        assert all(cv2.imread(str(path)) is not None for path in output.glob("*.png"))
    (output / "0000003.png").write_bytes(b"")  # a machine without power may leave a name without content
    succeeds("data_preparation.py", "--dataset", "cvusa", cwd=tmp_path)
    files = contents(output)
    assert len(files) == 121 and not any(name.endswith(".partial") for name in files)
    succeeds("data_preparation.py", "--dataset", "cvusa", "--overwrite", cwd=tmp_path)
    assert contents(output) == files


def test_finished_files_are_not_touched(tiles, tmp_path):
    output = tmp_path / "Data/CVUSA/polarmap/19"
    succeeds("data_preparation.py", "--dataset", "cvusa", cwd=tmp_path)
    before = {path: path.stat().st_mtime_ns for path in output.iterdir()}
    (output / "0000005.png").unlink()
    assert "1 prepared" in succeeds("data_preparation.py", "--dataset", "cvusa", cwd=tmp_path)
    after = {path: path.stat().st_mtime_ns for path in output.iterdir()}
    assert sorted(path.name for path in before if before[path] != after[path]) == ["0000005.png"]


def test_broken_images_are_named_and_the_others_prepared(tiles, tmp_path):
    whole = cv2.imencode(".jpg", recipe.aerial_image(750))[1].tobytes()
    (tiles / "cut.jpg").write_bytes(whole[:len(whole) // 2])
    (tiles / "empty.jpg").write_bytes(b"")
    cv2.imwrite(str(tiles / "pixel.png"), np.zeros((1, 1, 3), np.uint8))
    cv2.imwrite(str(tiles / "oblong.png"), np.zeros((750, 740, 3), np.uint8))
    process = run("data_preparation.py", "--dataset", "cvusa", cwd=tmp_path)
    assert process.returncode == 1 and "Traceback" not in process.stderr
    for name in ("cut.jpg: truncated", "empty.jpg: empty", "pixel.png: 1x1 pixels instead of 750x750", "oblong.png"):
        assert name in process.stderr
    assert len(list((tmp_path / "Data/CVUSA/polarmap/19").glob("*.png"))) == 20


def test_maps_with_and_without_stretch_are_never_mixed(tiles, tmp_path):
    output = tmp_path / "Data/CVUSA/polarmap/19"
    succeeds("data_preparation.py", "--dataset", "cvusa", cwd=tmp_path)
    stretched = contents(output)
    assert json.loads((output / "preparation.json").read_text()) == {"stretch": True}
    message = complains("data_preparation.py", "--dataset", "cvusa", "--no_stretch", cwd=tmp_path)
    assert "--overwrite" in message and contents(output) == stretched
    succeeds("data_preparation.py", "--dataset", "cvusa", "--no_stretch", "--overwrite", cwd=tmp_path)
    assert json.loads((output / "preparation.json").read_text()) == {"stretch": False}
    rows = cv2.imread(str(output / "0000000.png"))[[0, 37, 74, 111]]
    golden = np.load(GOLDEN / "polar_transform.npz")["polar_750_unstretched_rows"]
    np.testing.assert_array_equal(rows, np.floor(golden + 0.5))
    assert "leave out" not in complains("data_preparation.py", "--dataset", "cvusa", cwd=tmp_path)


def test_street_views_are_rows_208_to_623_resized_by_area():
    panorama = np.random.default_rng(0).integers(0, 256, (832, 1664, 3), np.uint8)
    np.testing.assert_array_equal(
        street_view(panorama), cv2.resize(panorama[208:624], (616, 112), interpolation=cv2.INTER_AREA))


def test_tiles_of_another_size_are_prepared_and_said_so(towns, tmp_path):
    os.symlink(towns / "Data", tmp_path / "Data")
    assert "(the dataset's have 1200x1200)" in succeeds("data_preparation.py", "--dataset", "cvact", cwd=tmp_path)


@pytest.mark.parametrize("arguments, expected", [
    (["--dataset", "cvusa"], "Data/CVUSA/bingmap/19"), (["--dataset", "all"], "no dataset in it"),
    (["--dataset", "cvact", "--data_dir", "nowhere"], "nowhere/ANU_data_small/satview_polish"), ([], "--dataset"),
    (["--dataset", "vigor"], "'vigor'"), (["--dataset", "cvusa", "--workers", "0"], "--workers"),
    (["--dataset", "cvusa", "--worker", "2"], "--worker 2")])
def test_mistakes_get_one_line_that_names_them(tmp_path, arguments, expected):
    assert expected in complains("data_preparation.py", *arguments, cwd=tmp_path)
    assert not os.listdir(tmp_path)


def test_an_empty_folder_is_a_mistake(tmp_path):
    (tmp_path / "Data/CVUSA/bingmap/19").mkdir(parents=True)
    assert "no JPEG or PNG images" in complains("data_preparation.py", "--dataset", "cvusa", cwd=tmp_path)


def test_half_written_files_of_ended_processes_go_and_those_of_running_ones_stay(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    ended.stdout.read()
    time.sleep(0.2)  # ended, but nobody asked for its exit code: in a container this can stay so
    leftovers = {number: tmp_path / f".a.png.{platform.node().partition('.')[0]}-{number}.partial"
                 for number in (ended.pid, os.getpid())}
    for path in leftovers.values():
        path.write_bytes(b"half")
    remove_abandoned(tmp_path)
    assert not leftovers[ended.pid].exists() and leftovers[os.getpid()].exists()
    ended.wait()
