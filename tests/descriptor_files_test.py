"""Descriptors on disk: a stopped test goes on, another test computes none again, and nothing else is taken for them."""

import errno
import functools
import json
import os
import re
import shutil
from unittest import mock

import numpy as np
import pytest
import scipy.io
from conftest import NETWORK, TINY, complains, contents, refuses, run, start, succeeds
from forked_scripts import die_after_batches

import spatial_net
from safa.retrieval.resumable_rows import ResumableRows
from safa.retrieval.saved_descriptors import check_mat
from safa.runtime.files import locked

FLAGS = {"network_type": "VGG_gp", "result_dir": "R", "batch_size": 2}
RESULT, FOLDER = "R/CVUSA/VGG_gp_polar_1.json", "R/CVUSA/VGG_gp_polar_1.descriptors"
KNOWN = "descriptors were computed before"
EXPECTED = np.random.default_rng(0).standard_normal((10, 4)).astype(np.float32)


@pytest.fixture
def sources(tmp_path):
    """Ten files that rows are of."""
    for row in range(10):
        (tmp_path / f"{row}.jpg").write_text(str(row))
    return [str(tmp_path / f"{row}.jpg") for row in range(10)]


def rows_in(folder, sources, weights="a", **others):
    return ResumableRows((10, 4), path=str(folder / "grd"), identity={"weights": weights}, sources=sources, **others)


def filled(folder, sources, done=10, **others):
    """Rows of which the first are finished, by a command that ended."""
    with rows_in(folder, sources, **others) as rows:
        for row in range(done):
            rows.write(row, EXPECTED[row : row + 1], 2.5)
    return rows


def test_rows_go_on_where_a_stopped_command_ended(tmp_path, sources):
    filled(tmp_path, sources, done=6)
    kept = np.load(tmp_path / "grd.npy", mmap_mode="r+")
    kept[6:] = 7  # half-written when it was killed
    kept.flush()
    rows = rows_in(tmp_path, sources)
    assert (rows.done, rows.milliseconds, rows.note) == (6, 2.5, None)
    with rows:
        rows.write(4, np.concatenate([np.zeros((2, 4)), EXPECTED[6:]]))  # what is finished stays
    np.testing.assert_array_equal(rows.rows, EXPECTED)
    assert rows_in(tmp_path, sources).done == 10


def test_a_source_that_was_replaced_matters_to_the_rows_finished_from_it(tmp_path, sources):
    assert filled(tmp_path, sources, weights="b").done == 10
    assert filled(tmp_path, sources, done=5).note is None  # rows of other weights are no damage
    for row, done in ((7, 5), (4, 0)):
        with open(sources[row], "a") as file:
            file.write("changed")
        assert ((rows := rows_in(tmp_path, sources)).done, rows.note) == (done, None)


def flipped_bit(folder):
    content = bytearray((folder / "grd.npy").read_bytes())
    content[-30] ^= 1
    (folder / "grd.npy").write_bytes(content)


DAMAGES = {
    "flipped bit": flipped_bit,
    "pickled": lambda folder: np.save(folder / "grd.npy", np.array([{}], object), allow_pickle=True),
    "array gone": lambda folder: (folder / "grd.npy").unlink(),
    "a pipe": lambda folder: [(folder / "grd.npy").unlink(), os.mkfifo(folder / "grd.npy")],
    "deep manifest": lambda folder: (folder / "grd.json").write_text("[" * 100_000),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_what_is_damaged_is_computed_again_with_a_line_that_says_so(tmp_path, sources, damage):
    filled(tmp_path, sources)
    damage(tmp_path)
    rows = rows_in(tmp_path, sources)
    assert rows.done == 0 and "grd." in rows.note and "\n" not in rows.note
    filled(tmp_path, sources)
    assert rows_in(tmp_path, sources).done == 10


def test_descriptors_that_do_not_fit_on_the_disk_are_one_line_before_they_are_computed(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6, 100))
    refuses("--descriptors memory", rows_in, tmp_path, [], remedy="use --descriptors memory")
    monkeypatch.undo()
    monkeypatch.setattr("mmap.mmap", mock.Mock(side_effect=OSError(errno.ENODEV, "No such device")))  # gcsfuse, for instance
    with pytest.raises(OSError, match="No such device: .*npy"):
        rows_in(tmp_path, [])


def test_a_second_test_of_the_same_run_at_the_same_time_waits_for_the_first(own):
    with locked(str(own / FOLDER), "another test"):
        process = start("test_cvusa.py", **flags_in(own), cwd=own)
        assert any("waiting for it" in line for line in iter(process.stdout.readline, ""))
    assert process.communicate()[0].count(KNOWN) == 2


@pytest.fixture(scope="module")
def trained(towns, tmp_path_factory):
    """A folder with a network trained on CVUSA's toy town for an epoch, and a first test. Not to be changed."""
    folder = tmp_path_factory.mktemp("trained")
    shutil.copytree(towns / "Data", folder / "Data")
    succeeds("train_cvusa.py", **TINY, network_type="VGG_gp", epochs=1, cwd=folder)
    assert KNOWN not in printed_by_test(folder, save_mat="d.mat", save_descriptors="d.npz")
    return folder


@pytest.fixture
def own(trained, tmp_path):
    """A copy of the network and the results to break, of the same images."""
    for name in ("Model", "R"):
        shutil.copytree(trained / name, tmp_path / name)
    os.symlink(trained / "Data", tmp_path / "Data")
    return tmp_path


def flags_in(folder, **flags):
    """A test's flags. They name the data as one folder, because descriptors are of the files that they were computed from."""
    return FLAGS | {"data_dir": os.path.realpath(folder / "Data")} | flags


def printed_by_test(folder, **flags):
    """Run a test there; what it printed."""
    return succeeds("test_cvusa.py", **flags_in(folder, **flags), cwd=folder)


def change_manifest(run_folder, **changes):
    manifest = run_folder / "config.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | changes))


def result_of(folder):
    content = json.loads((folder / RESULT).read_text())
    return {key: value for key, value in content.items() if key not in ("seconds", "cost", "session", "sat_files", "grd_files")}


def test_the_same_test_again_computes_nothing_and_says_the_same_also_after_a_bit_has_flipped(own):
    first = result_of(own)
    again = printed_by_test(own)
    assert again.count(KNOWN) == 2 and result_of(own) == first
    flipped_bit(own / FOLDER)
    output = printed_by_test(own)
    assert "grd.npy: damaged" in output and f"satellite {KNOWN}" in output and f"ground {KNOWN}" not in output
    assert result_of(own) == first
    other = printed_by_test(own, direction="aerial_to_ground")
    assert other.count(KNOWN) == 2 and "aerial images among" in other
    shutil.rmtree(own / FOLDER)
    in_memory = printed_by_test(own, descriptors="memory")
    assert not (own / FOLDER).exists() and KNOWN not in in_memory and result_of(own) == first
    in_memory, again = (text[text.index("percent") :].split("network:")[0] for text in (in_memory, again))
    assert in_memory == again


def test_a_killed_test_goes_on_and_ends_as_one_that_was_not(own):
    expected = result_of(own)
    shutil.rmtree(own / "R")
    killed = run("test_cvusa.py", **flags_in(own), before=functools.partial(die_after_batches, 3), cwd=own)
    assert killed.returncode == -9 and f"6 of 10 satellite {KNOWN}" in printed_by_test(own)
    assert result_of(own) == expected


def change_the_network():
    spatial_net.NORM_EPSILON = 0.1


def test_what_is_of_other_images_weights_or_code_is_computed_again(own):
    expected, data = result_of(own), os.path.realpath(own / "Data")
    os.unlink(own / "Data")
    shutil.copytree(data, own / "Data")
    assert KNOWN not in printed_by_test(own) and result_of(own) == expected
    assert KNOWN not in printed_by_test(own, before=change_the_network)
    printed_by_test(own)
    printed_by_test(own, checkpoint="last")
    succeeds("train_cvusa.py", **TINY, network_type="VGG_gp", epochs=2, cwd=own)
    assert KNOWN not in printed_by_test(own, checkpoint="last")
    printed_by_test(own, checkpoint="Model/CVUSA/VGG_gp/polar_1/ckpt-1")
    names = sorted(path.stem for path in (own / "R/CVUSA").glob("*.json"))
    assert names == ["VGG_gp_polar_1", "VGG_gp_polar_1_ckpt-1", "VGG_gp_polar_1_last"] and result_of(own) == expected


def test_descriptors_for_other_programs_hold_the_same_and_replace_their_own_kind_only(own, trained):
    found, same = scipy.io.loadmat(trained / "d.mat"), np.load(trained / "d.npz")
    for branch in "sat", "grd":
        assert found[f"{branch}_global_descriptor"].dtype == np.float32
        np.testing.assert_array_equal(found[f"{branch}_global_descriptor"], same[f"{branch}_descriptors"])
    refuses(r"2\.5 GB of .*--save_descriptors FILE\.npz", check_mat, "d.mat", 150_000, 4096)
    for name in "d.mat", "d.npz":
        shutil.copy(trained / name, own / name)
    printed_by_test(own, save_mat="d.mat", save_descriptors="d.npz")
    before = contents(own, ".lock")
    weights = "Model/CVUSA/VGG_gp/polar_1/best/ckpt-1.data-00000-of-00001"
    for name, expected in ((weights, "reads it"), ("d.npz", "another kind"), (RESULT, "writes this file too")):
        assert expected in complains("test_cvusa.py", **FLAGS, save_mat=name, cwd=own)
    assert contents(own, ".lock") == before


def test_weights_that_are_not_a_run_have_results_and_rows_of_their_own(own):
    shutil.copy(own / "Model/CVUSA/VGG_gp/polar_1/final.weights.h5", own / "net.weights.h5")
    run = shutil.copytree(own / "Model/CVUSA/VGG_gp/polar_1", own / "Model/CVUSA/VGG_gp/polar_1_named")
    before = (own / RESULT).read_bytes()
    printed_by_test(own, checkpoint=shutil.copytree(run / "best", run / "aside"))
    printed_by_test(own, **NETWORK, checkpoint="net.weights.h5")
    printed_by_test(own, checkpoint="Model/CVUSA/VGG_gp/polar_1_named/best")
    names = sorted(path.stem for path in (own / "R/CVUSA").glob("*.json"))
    assert names[:3] == [f"VGG_gp_polar_1{name}" for name in ("", "_named", "_named_aside_ckpt-1")]
    assert (own / RESULT).read_bytes() == before
    assert re.fullmatch(r"VGG_gp_polar_1_net\.weights\.h5_[0-9a-f]{8}", names[3])
    change_manifest(shutil.copytree(own / "Model", own / "M") / "CVUSA/VGG_gp/polar_1", sessions=[{"started": "1"}])
    assert "kept as" not in printed_by_test(own)
    for number, precision in enumerate(("float32", "tf32"), 1):
        assert f"VGG_gp_polar_1.previous-{number}.json" in printed_by_test(own, model_dir="M", precision=precision)
    assert "seed 0; left out" in (table := succeeds("recall_tables.py", result_dir="R", cwd=own))
    assert re.search(r"VGG_gp, polar +1 ", table) and re.search(r"VGG_gp, polar, run named +1 ", table)
    assert re.search(r"VGG_gp, polar, weights net\.weights\.h5_[0-9a-f]{8} +\d+\.", table)  # no number of seeds
    assert "--seed" in complains("test_cvusa.py", **FLAGS, checkpoint="net.weights.h5", seed=1, cwd=own)


def test_a_result_that_cannot_be_read_back_is_one_line(own):
    change_manifest(run := own / "Model/CVUSA/VGG_gp/polar_1", dataset="../a")
    assert "config.json: not what this project writes" in complains("test_cvusa.py", **flags_in(own), cwd=own)
    change_manifest(run, dataset="a" * 201)
    assert "not a result of a test" in complains("test_cvusa.py", **flags_in(own), run="r", checkpoint=run, cwd=own)


def test_a_network_of_one_dataset_is_tested_on_the_other(own):
    given = {"checkpoint": "Model/CVUSA/VGG_gp/polar_1/best", "result_dir": "R"}
    output = succeeds("test_cvact.py", **given, cwd=own)
    assert "trained on CVUSA" in output and "published" not in output.split("percent")[1]
    result = json.loads((own / "R/CVACT/VGG_gp_polar_1_trained_on_CVUSA.json").read_text())
    assert (result["dataset"], result["trained_on"]) == ("CVACT", "CVUSA")
    assert "recall_within_5m" not in result and set(result["metres"]["within"]) == {"5", "25", "100"}
    again = succeeds("test_cvact.py", **given, radius=30, cwd=own)
    result = json.loads((own / "R/CVACT/VGG_gp_polar_1_trained_on_CVUSA.json").read_text())
    assert again.count(KNOWN) == 2 and result["recall_within_30m"]["1"] >= result["recall"]["1"]
    assert "--radius" in complains("test_cvusa.py", **FLAGS, radius=5, cwd=own)
    shutil.copytree(own / "Model/CVUSA/VGG_gp/polar_1", own / "other")
    of_seed = json.loads((own / "other/config.json").read_text())["training"] | {"seed": 3}
    change_manifest(own / "other", dataset="CVACT", training=of_seed)
    assert "trained on CVACT" in succeeds("test_cvusa.py", checkpoint="other/best", result_dir="R", cwd=own)
    result = json.loads((own / "R/CVUSA/VGG_gp_polar_1_seed_3_trained_on_CVACT.json").read_text())  # seeds do not overwrite
    assert (result["trained_on"], result["seed"]) == ("CVACT", 3)
    table = succeeds("recall_tables.py", result_dir="R", cwd=own)
    assert "VGG_gp, polar, trained on CVUSA" in table and "VGG_gp, polar, trained on CVACT" in table
