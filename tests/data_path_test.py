"""Data as users have it: other folders, other separators, two runs at once, a full disk, caches."""

import csv
import os
import platform
import random
import shutil
import signal
import time

import numpy as np
import pytest
from conftest import ROOT, TINY, complains, run, start, succeeds

from input_data import batches
from safa.datasets import image_cache
from safa.datasets.cvact import CVACT
from safa.datasets.cvusa import CVUSA
from safa.datasets.image_files import read_input
from safa.runtime.errors import UserError

SHAPES = (32, 128), (32, 128)


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_folders_with_spaces_other_letters_and_links_that_must_not_be_written_to(towns, tmp_path):
    data = tmp_path / "Daten für Zürich 東京"
    shutil.copytree(towns / "Data", data, ignore=shutil.ignore_patterns("polarmap", "CVACT"))
    os.symlink(data, tmp_path / "link")
    before = contents(data)
    for path in [data, *data.rglob("*")]:
        if path.is_dir():
            path.chmod(0o555)
    try:
        succeeds("data_preparation.py", dataset="all", data_dir="link", prepared_dir="my prepared files", cwd=tmp_path)
        folders = {"data_dir": "link", "prepared_dir": "my prepared files"}
        succeeds("train_cvact.py", **TINY, **folders, network_type="SAFA_1", epochs=1, cache="disk", cwd=tmp_path)
        succeeds("test_cvact.py", network_type="SAFA_1", data_dir="link", prepared_dir="my prepared files", cwd=tmp_path)
    finally:
        for path in [data, *data.rglob("*")]:
            if path.is_dir():
                path.chmod(0o755)
    assert contents(data) == before
    assert contents(tmp_path / "my prepared files/CVUSA/polarmap") == contents(towns / "Data/CVUSA/polarmap")


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "   \n"),
        lambda text: text.replace("/", "\\"),
        lambda text: text + "\n\n  \n",
        lambda text: text.replace(",", " , "),
    ],
)
def test_lists_as_other_programs_write_them(own_towns, change):
    dataset = CVUSA(str(own_towns / "Data"))
    before = dataset.pairs("train")
    path = own_towns / "Data/CVUSA/splits/train-19zl.csv"
    path.write_bytes(change(path.read_text()).encode())
    after = dataset.pairs("train")
    assert (after.ids, after.sat_paths, after.grd_paths) == (before.ids, before.sat_paths, before.grd_paths)


def test_upper_case_extensions_are_found(own_towns):
    for folder in ("CVUSA/bingmap/19", "CVUSA/streetview/panos", "ANU_data_small/satview_polish"):
        for path in (own_towns / "Data" / folder).iterdir():
            path.rename(path.with_suffix(".JPG"))
            assert not path.exists()  # a file system that ignores the case would show nothing
    polar = own_towns / "Data/CVUSA/polarmap"
    expected = contents(polar)
    shutil.rmtree(polar)
    assert "34 prepared" in succeeds("data_preparation.py", dataset="cvusa", cwd=own_towns)
    assert contents(polar) == expected
    for script, polar in (("train_cvusa.py", 1), ("train_cvact.py", 0)):
        output = succeeds(script, **TINY, polar=polar, network_type="SAFA_1", epochs=1, cwd=own_towns)
        assert "24 pairs for training, 10 for validation" in output and "finished 1 epochs" in output


def test_two_runs_preparing_one_folder_both_finish(own_towns):
    polar = own_towns / "Data/CVUSA/polarmap"
    expected = contents(polar)
    shutil.rmtree(polar)
    runs = [start("data_preparation.py", dataset="cvusa", workers=1, cwd=own_towns) for _ in range(2)]
    outputs = [process.communicate(timeout=120) for process in runs]
    assert [process.returncode for process in runs] == [0, 0], outputs
    assert contents(polar) == expected


def test_a_disk_that_fills_up_leaves_whole_files_and_one_line(own_towns):
    polar = own_towns / "Data/CVUSA/polarmap"
    expected = contents(polar)
    shutil.rmtree(polar)
    script = os.path.join(ROOT, "data_preparation.py")
    process = start("tests/programs/full_disk.py", 200_000, script, dataset="cvusa", workers=1, cwd=own_towns)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 2, errors
    line = errors.strip().splitlines()[-1]
    assert "No space left on device" in line and ".png" in line and "free some space" in line
    finished = contents(polar)
    assert 0 < len(finished) < len(expected) and all(expected[path] == content for path, content in finished.items())
    succeeds("data_preparation.py", dataset="cvusa", cwd=own_towns)
    assert contents(polar) == expected


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_a_cache_gives_the_same_batches(towns, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(CVACT, "cache_dir", str(tmp_path))
    pairs = CVACT(str(towns / "Data")).pairs("train")
    (caches,) = image_cache.make_caches(kind, [pairs], SHAPES, print)
    order = np.random.default_rng(0).permutation(24)
    for _ in range(2):
        plain, cached = (list(batches(pairs, order, 5, SHAPES, caches=each)) for each in ((None, None), caches))
        assert len(plain) == len(cached) == 5
        for one, other in zip(plain, cached, strict=True):
            assert all(np.array_equal(*each) for each in zip(one[:4], other[:4], strict=True))


def test_a_cache_on_disk_decodes_once_and_again_when_a_source_changes(own_towns, tmp_path, monkeypatch):
    tmp_path = tmp_path / "cache"
    monkeypatch.setattr(CVACT, "cache_dir", str(tmp_path))
    pairs = CVACT(str(own_towns / "Data")).pairs("train")
    decoded = []
    monkeypatch.setattr(image_cache, "read_input", lambda path, shape: decoded.append(path) or read_input(path, shape))
    for _ in range(2):
        image_cache.disk_cache(pairs, SHAPES, print)
    assert len(decoded) == 48
    shutil.copy(pairs.sat_paths[1], pairs.sat_paths[0])
    sat, _ = image_cache.disk_cache(pairs, SHAPES, print)
    assert len(decoded) == 96 and np.array_equal(sat.get(0), sat.get(1))
    (path,) = tmp_path.glob("*/grd.npy")
    path.write_bytes(path.read_bytes()[:-1])  # a copy that was cut off
    image_cache.disk_cache(pairs, SHAPES, print)
    assert len(decoded) == 144
    os.truncate(pairs.grd_paths[0], 100)
    before = contents(tmp_path)
    with pytest.raises(UserError, match=os.path.basename(pairs.grd_paths[0])):
        image_cache.disk_cache(pairs, SHAPES, print)
    assert contents(tmp_path) == before


def test_what_killed_runs_left_of_a_cache_goes_also_when_a_cache_is_there(towns, tmp_path, monkeypatch):
    monkeypatch.setattr(CVUSA, "cache_dir", str(tmp_path))
    pairs = CVUSA(str(towns / "Data")).pairs("val")
    image_cache.disk_cache(pairs, SHAPES, print)
    before = contents(tmp_path)
    leftover = tmp_path / f".train_8x8_8x8.{platform.node().partition('.')[0]}-{2**30}.partial"
    leftover.mkdir()
    (leftover / "sat.npy").write_bytes(b"half")
    image_cache.disk_cache(pairs, SHAPES, print)
    assert contents(tmp_path) == before and not leftover.exists()


def test_a_cache_that_does_not_fit_says_so(towns, tmp_path, monkeypatch):
    monkeypatch.setattr(CVACT, "cache_dir", str(tmp_path))
    pairs = CVACT(str(towns / "Data")).pairs("train")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 1000))
    with pytest.raises(UserError, match="free some space"):
        image_cache.disk_cache(pairs, SHAPES, print)
    monkeypatch.setattr(image_cache, "_free_memory", lambda: 1000)
    with pytest.raises(UserError, match="--cache disk"):
        image_cache.memory_cache(pairs, SHAPES, print)
    assert not list(tmp_path.iterdir())


def test_a_run_that_is_killed_while_it_makes_its_cache_leaves_none(towns, tmp_path):
    os.symlink(towns / "Data", tmp_path / "Data")
    flags = TINY | {"network_type": "SAFA_1", "epochs": 1, "cache": "disk", "prepared_dir": "prepared"}
    shutil.copytree(towns / "Data/CVUSA/polarmap", tmp_path / "prepared/CVUSA/polarmap")
    folder = tmp_path / "prepared/CVUSA/cache"
    moments = random.Random(0)
    for _ in range(2):
        process = start("train_cvusa.py", **flags, cwd=tmp_path)
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline and not folder.exists():
            time.sleep(0.0005)
        time.sleep(moments.random() / 100)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        for array in folder.glob("*[0-9]/sat.npy"):  # what bears the final name is whole
            assert np.load(array).any(axis=(1, 2, 3)).all()
        shutil.rmtree(folder / "train_32x128_32x128", ignore_errors=True)
    succeeds("train_cvusa.py", **flags, cwd=tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == ["train_32x128_32x128", "val_32x128_32x128"]


def test_training_from_caches_is_the_same_training(towns, tmp_path):
    results = []
    for cache in ("none", "memory", "disk"):
        folder = tmp_path / cache
        folder.mkdir()
        shutil.copytree(towns / "Data", folder / "Data")
        flags = TINY | {"network_type": "SAFA_1", "epochs": 2, "deterministic": True, "cache": cache}
        output = succeeds("train_cvact.py", **flags, cwd=folder)
        assert ("GB of decoded images" in output) == (cache != "none")
        with open(folder / "Result/CVACT/SAFA_1_polar_1.csv", newline="") as file:
            results.append(
                ([row[:-1] for row in csv.reader(file)], (folder / "Model/CVACT/SAFA_1/polar_1/final.weights.h5").read_bytes())
            )
    assert results[0] == results[1] == results[2]


def test_an_empty_folder_name_is_refused(tmp_path):
    assert "--data_dir" in complains("train_cvusa.py", data_dir="", cwd=tmp_path)
    assert run("data_preparation.py", dataset="cvusa", prepared_dir="", cwd=tmp_path).returncode == 2
