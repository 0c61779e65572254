"""Descriptors on disk: a stopped test goes on, another test computes none again, and nothing else is taken for them."""

import json
import os
import shutil
import signal
import time

import h5py
import numpy as np
import pytest
import scipy.io
from conftest import TINY, complains, start, succeeds

from safa.retrieval import descriptor_files
from safa.retrieval.descriptor_files import open_descriptor_files
from safa.retrieval.saved_descriptors import save_mat

FLAGS = {"network_type": "SAFA_2", "result_dir": "R", "batch_size": 2}
RESULT, FOLDER = "R/CVUSA/SAFA_2_polar_1.json", "R/CVUSA/SAFA_2_polar_1.descriptors"
KNOWN = "descriptors were computed before"


@pytest.fixture(scope="module")
def trained(towns, tmp_path_factory):
    """A folder with a network trained on CVUSA's toy town for an epoch. Not to be changed."""
    folder = tmp_path_factory.mktemp("trained")
    os.symlink(towns / "Data", folder / "Data")
    succeeds("train_cvusa.py", **TINY, network_type="SAFA_2", epochs=1, cwd=folder)
    return folder


@pytest.fixture
def own(trained, tmp_path):
    """A copy to break, and to test in."""
    shutil.copytree(trained / "Model", tmp_path / "Model")
    shutil.copytree(trained / "Data", tmp_path / "Data")
    return tmp_path


def flags_in(folder, **flags):
    """A test's flags. They name the data as one folder, because descriptors are of the files that they were computed from."""
    return FLAGS | {"data_dir": os.path.realpath(folder / "Data")} | flags


def printed_by_test(folder, **flags):
    """Run a test there; what it printed."""
    return succeeds("test_cvusa.py", **flags_in(folder, **flags), cwd=folder)


@pytest.fixture(scope="module")
def with_results(trained):
    """The folder of `trained`, with results and descriptors of its first test."""
    assert KNOWN not in printed_by_test(trained)
    return trained


@pytest.fixture
def own_results(with_results, tmp_path):
    """A copy of the results to break, of the same images."""
    for name in ("Model", "R"):
        shutil.copytree(with_results / name, tmp_path / name)
    os.symlink(with_results / "Data", tmp_path / "Data")
    return tmp_path


def result_of(folder):
    content = json.loads((folder / RESULT).read_text())
    return {name: value for name, value in content.items() if name not in ("seconds", "cost")}


def test_the_same_test_again_computes_nothing_and_says_the_same(own_results):
    own, first = own_results, result_of(own_results)
    again = printed_by_test(own)
    assert again.count(KNOWN) == 2 and result_of(own) == first
    other = printed_by_test(own, direction="aerial_to_ground")
    assert other.count(KNOWN) == 2 and "aerial images among" in other
    shutil.rmtree(own / FOLDER)
    in_memory = printed_by_test(own, descriptors="memory")
    assert not (own / FOLDER).exists() and KNOWN not in in_memory and result_of(own) == first
    of_tables = [text[text.index("percent") :].split("network:")[0] for text in (in_memory, again)]
    assert of_tables[0] == of_tables[1]


def test_a_test_that_was_killed_goes_on_after_what_it_noted(own_results):
    """As if it was killed after five images: what comes after them is computed again."""
    own, expected = own_results, result_of(own_results)
    note = own / FOLDER / "ground.json"
    content = json.loads(note.read_text())
    note.write_text(json.dumps(content | {"done": 5}))
    rows = np.load(own / FOLDER / "ground.npy", mmap_mode="r+")
    whole = rows.copy()
    rows[5:] = 7
    rows.flush()
    output = printed_by_test(own)
    assert "going on after 5 ground descriptors" in output and result_of(own) == expected
    np.testing.assert_allclose(np.load(own / FOLDER / "ground.npy"), whole, atol=1e-6)


def test_a_test_killed_at_any_moment_ends_as_one_that_was_not(own_results):
    own, expected = own_results, result_of(own_results)
    shutil.rmtree(own / "R")
    for seconds in (0.7, 1.2):  # a whole test takes 2
        process = start("test_cvusa.py", **flags_in(own), cwd=own)
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    printed_by_test(own)
    assert result_of(own) == expected


def other_weights(folder):
    succeeds("train_cvusa.py", **TINY, network_type="SAFA_2", epochs=2, cwd=folder)
    return {"checkpoint": "last"}


def other_image(folder):
    path = folder / "Data/CVUSA/streetview/panos/0000026.jpg"
    shutil.copy(folder / "Data/CVUSA/streetview/panos/0000027.jpg", path)
    os.utime(path)
    return {}


def broken_note(folder):
    (folder / FOLDER / "ground.json").write_text("[" * 100_000)


def truncated(folder):
    path = folder / FOLDER / "ground.npy"
    os.truncate(path, path.stat().st_size - 4)


def pickled(folder):
    np.save(folder / FOLDER / "ground.npy", np.array([{}], object), allow_pickle=True)


def other_shape(folder):
    np.save(folder / FOLDER / "ground.npy", np.zeros((10, 3), np.float32))


def wrong_count(folder):
    path = folder / FOLDER / "ground.json"
    path.write_text(path.read_text().replace('"done": 10', '"done": 11'))


@pytest.mark.parametrize("change", [other_weights, other_image], ids=lambda f: f.__name__)
def test_what_is_of_other_weights_or_images_is_computed_again(own, change):
    printed_by_test(own)
    flags = change(own)
    assert "the ground " + KNOWN not in printed_by_test(own, **flags)
    kept = result_of(own)
    shutil.rmtree(own / "R")
    printed_by_test(own, descriptors="memory", **flags)
    assert result_of(own) == kept


@pytest.mark.parametrize("change", [broken_note, truncated, pickled, other_shape, wrong_count], ids=lambda f: f.__name__)
def test_what_is_damaged_is_computed_again(own_results, change):
    expected = result_of(own_results)
    change(own_results)
    assert "the ground " + KNOWN not in printed_by_test(own_results)
    assert result_of(own_results) == expected


def test_a_second_test_of_the_same_run_at_the_same_time_keeps_its_descriptors_in_memory(tmp_path):
    with open_descriptor_files(str(tmp_path), {}) as one, open_descriptor_files(str(tmp_path), {}) as other:
        assert one is not None and other is None


def test_descriptors_that_do_not_fit_on_the_disk_are_one_line_before_they_are_computed(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6, 100))
    with (
        open_descriptor_files(str(tmp_path), {}) as files,
        pytest.raises(descriptor_files.UserError, match="--descriptors memory"),
    ):
        files.file("ground", (1000, 64)).begin()


@pytest.mark.parametrize("most_bytes", [2**31, 100])
def test_matlab_files_hold_the_descriptors_as_the_fields_scripts_read_them(tmp_path, most_bytes):
    random = np.random.default_rng(0)
    sat, grd = random.standard_normal((30, 8)).astype(np.float32), random.standard_normal((20, 8)).astype(np.float32)
    path = tmp_path / "descriptors.mat"
    save_mat(str(path), sat, grd, most_bytes)
    if most_bytes > 100:
        found = scipy.io.loadmat(path)
    else:
        assert path.read_bytes().startswith(b"MATLAB 7.3 MAT-file") and path.read_bytes()[124:128] == b"\x00\x02IM"
        with h5py.File(path) as file:  # MATLAB's order of dimensions is the other way round
            found = {name: file[name][()].T for name in file}
            assert all(file[name].attrs["MATLAB_class"] == b"single" for name in file)
    for name, expected in (("sat_global_descriptor", sat), ("grd_global_descriptor", grd)):
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], expected)


def test_a_test_writes_a_matlab_file_and_refuses_one_that_it_cannot_write(own):
    printed_by_test(own, save_mat="d.mat", save_descriptors="d.npz")
    found, same = scipy.io.loadmat(own / "d.mat"), np.load(own / "d.npz")
    np.testing.assert_array_equal(found["sat_global_descriptor"], same["sat_descriptors"])
    assert "--save_mat" in complains("test_cvusa.py", **FLAGS, save_mat="missing/d.mat", cwd=own)


def test_a_network_of_one_dataset_is_tested_on_the_other(own):
    given = {"checkpoint": "Model/CVUSA/SAFA_2/polar_1/best", "result_dir": "R"}
    output = succeeds("test_cvact.py", **given, cwd=own)
    assert "trained on CVUSA" in output and "published:" not in output
    result = json.loads((own / "R/CVACT/SAFA_2_polar_1_trained_on_CVUSA.json").read_text())
    assert (result["dataset"], result["trained_on"]) == ("CVACT", "CVUSA")
    assert "recall_within_5m" not in result and set(result["metres"]["within"]) == {"5", "25", "100"}
    again = succeeds("test_cvact.py", **given, radius=30, cwd=own)
    result = json.loads((own / "R/CVACT/SAFA_2_polar_1_trained_on_CVUSA.json").read_text())
    assert again.count(KNOWN) == 2 and result["recall_within_30m"]["1"] >= result["recall"]["1"]
    assert "--radius" in complains("test_cvusa.py", **FLAGS, radius=5, cwd=own)
    shutil.copytree(own / "Model/CVUSA/SAFA_2/polar_1", own / "other")
    note = own / "other/config.json"
    content = json.loads(note.read_text())
    note.write_text(json.dumps(content | {"dataset": "CVACT", "training": content["training"] | {"seed": 3}}))
    assert "trained on CVACT" in succeeds("test_cvusa.py", checkpoint="other/best", result_dir="R", cwd=own)
    result = json.loads((own / "R/CVUSA/SAFA_2_polar_1_seed_3_trained_on_CVACT.json").read_text())  # seeds do not overwrite
    assert (result["trained_on"], result["seed"], result["recall"]) == ("CVACT", 3, result["recall"])
    table = succeeds("recall_tables.py", result_dir="R", cwd=own)
    assert "SAFA_2, polar, trained on CVUSA" in table and "SAFA_2, polar, trained on CVACT" in table
