"""Training and testing as a user runs them: whole runs, mistakes, and runs that were stopped, which end with the same bits."""

import dataclasses
import functools
import json
import os
import random
import re
import shutil
import signal
import threading
import time
import types

import cv2
import h5py
import numpy as np
import pytest
import scipy.io
from conftest import SHALLOW, TINY, complains, events_of, refuses, rows_of, start, succeeds, tensors_of, wait_until
from forked_scripts import no_file_grows_beyond

from safa.datasets.cvact import CVACT
from safa.datasets.cvusa import CVUSA
from safa.launch.training import check_cache, training_parser
from safa.report.drawing import WIDTH
from safa.runtime.files import locked
from safa.runtime.interruption import StopRequest
from safa.settings import NetworkConfig
from safa.training.run_folder import data_identity

FLAGS = TINY | {"network_type": "SAFA_2", "epochs": 4}


@pytest.fixture(scope="module")
def trained(towns, tmp_path_factory):
    """A folder with a network trained on CVUSA's toy town for four epochs. Not to be changed."""
    folder = tmp_path_factory.mktemp("trained")
    os.symlink(towns / "Data", folder / "Data")
    succeeds("train_cvusa.py", **FLAGS, figures_every=3, cwd=folder)
    return folder


def test_every_epoch_leaves_a_line_and_a_checkpoint_and_some_a_picture(trained):
    rows = rows_of(trained / "Result/CVUSA/SAFA_2_polar_1.csv")
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert list(rows[0]) == ["epoch", "loss", "recall@1", "recall@5", "recall@10", "recall@1%", "seconds"]
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"]) and float(rows[0]["recall@10"]) == 1
    run_folder = trained / "Model/CVUSA/SAFA_2/polar_1"
    assert sorted(path.name for path in run_folder.glob("*.index")) == [f"ckpt-{n}.index" for n in (2, 3, 4)]
    kept = []
    with h5py.File(run_folder / "final.weights.h5") as file:
        file.visititems(lambda _, each: kept.append(each[()]) if isinstance(each, h5py.Dataset) else None)
    for name, tensor in tensors_of(run_folder).items():
        if name.startswith("network/") and "seed_generator" not in name:
            assert any(np.array_equal(tensor, each) for each in kept), name
    records = {max(float(row["recall@1"]) for row in rows[: n + 1]) for n in range(4)}  # each is saved as the best
    assert [path.name for path in (run_folder / "best").glob("*.index")] == [f"ckpt-{len(records)}.index"]
    (event,) = events_of(run_folder).Tensors("validation")  # of epoch 3 alone
    picture = cv2.imdecode(np.frombuffer(event.tensor_proto.string_val[2], np.uint8), cv2.IMREAD_COLOR)
    assert abs(picture.shape[1] - WIDTH) < 10 and event.step == 3 * 24 // TINY["batch_size"]


def test_the_test_script_reports_the_best_epochs_recall_whatever_its_batches_are(trained, tmp_path):
    flags = {"network_type": "SAFA_2", "save_descriptors": tmp_path / "d.npz", "result_dir": tmp_path}
    output = succeeds("test_cvusa.py", **flags, cwd=trained)
    result = json.loads((tmp_path / "CVUSA/SAFA_2_polar_1.json").read_text())
    saved = np.load(tmp_path / "d.npz")
    assert saved["ids"].tolist() == [f"{number:07}" for number in range(25, 35)]
    assert result | {"dataset": "CVUSA", "split": "val", "queries": 10, "references": 10} == result
    assert len(result["recall_curve"]) == 1 and set(result["seconds"]) == {"descriptors", "ranks"}
    assert f"{100 * result['recall']['1']:.2f}" in output and "R@1% of 10 references is recall@1" in output
    best = max(float(row["recall@1"]) for row in rows_of(trained / "Result/CVUSA/SAFA_2_polar_1.csv"))
    assert result["recall"]["1"] == pytest.approx(best)
    assert os.path.dirname(result["checkpoint"]) == "Model/CVUSA/SAFA_2/polar_1/best"
    flags |= {"checkpoint": result["checkpoint"], "batch_size": 3, "save_descriptors": tmp_path / "other.npz"}
    succeeds("test_cvusa.py", **flags, descriptors="memory", cwd=trained)
    np.testing.assert_allclose(np.load(tmp_path / "other.npz")["grd_descriptors"], saved["grd_descriptors"], atol=1e-6)
    assert "--network_type SAFA_2" in complains("test_cvusa.py", **flags | {"network_type": "SAFA_8"}, cwd=trained)


def test_a_damaged_checkpoint_is_passed_over_a_lost_list_loses_nothing_and_a_loss_not_finite_ends_the_run(trained, tmp_path):
    folder, run_folder = tmp_path, tmp_path / "Model/CVUSA/SAFA_2/polar_1"
    shutil.copytree(trained, folder, symlinks=True, dirs_exist_ok=True)
    newest = run_folder / "ckpt-4.data-00000-of-00001"
    newest.write_bytes(newest.read_bytes()[:1000])
    output = succeeds("train_cvusa.py", **FLAGS, cwd=folder)
    assert "ckpt-4: cannot be read" in output and "going on after epoch 3" in output
    assert len(rows_of(folder / "Result/CVUSA/SAFA_2_polar_1.csv")) == 4
    (run_folder / "checkpoint").write_text("")
    (run_folder / "best/checkpoint").unlink()
    settings = run_folder / "config.json"
    settings.write_text(re.sub('"image_bytes": ', '"image_bytes": 1', settings.read_text()))
    assert re.search("some were replaced.*\n.*\nall 4 epochs were finished", succeeds("train_cvusa.py", **FLAGS, cwd=folder))
    assert "not 5e-06" in complains("train_cvusa.py", **FLAGS | {"learning_rate": 5e-6}, cwd=folder)
    settings.unlink()
    assert "config.json" in complains("train_cvusa.py", **FLAGS, cwd=folder)
    assert len(list(run_folder.glob("*.index"))) == 3
    # Another run; what this one left is kept.
    before = (folder / "Result/CVUSA/SAFA_2_polar_1.csv").read_text()
    for path in [*run_folder.glob("ckpt-*"), run_folder / "checkpoint"]:
        path.unlink()
    message = complains("train_cvusa.py", **FLAGS | {"learning_rate": 1e36, "epochs": 6}, cwd=folder)
    assert "the loss or its gradient is nan" in message and "use a lower --learning_rate" in message
    assert list((run_folder / "best.previous-1").glob("*.index"))
    assert (folder / "Result/CVUSA/SAFA_2_polar_1.previous-1.csv").read_text() == before


def test_cvact_test_is_laid_out_like_cvact_and_counts_matches_within_5_m_too(towns, with_network):
    (with_network / "Other").mkdir()
    os.symlink(towns / "Data/ANU_data_small", with_network / "Other/ANU_data_test")
    given = {"data_dir": "Other", "cwd": with_network}
    succeeds("data_preparation.py", dataset="cvact_test", workers=1, **given)
    assert "within 5 m" in succeeds("test_cvact.py", network_type="SAFA_2", split="test", **given)
    result = json.loads((with_network / "Result/CVACT_test/SAFA_2_polar_1.json").read_text())
    assert result["dataset"] == "CVACT_test" and result["queries"] == 10
    assert all(result["recall_within_5m"][k] >= value for k, value in result["recall"].items())


def test_batches_without_negatives_do_not_stop_a_run(own_towns):
    path = own_towns / "Data/ANU_data_small/ACT_data.mat"
    content = {key: value for key, value in scipy.io.loadmat(path).items() if not key.startswith("__")}
    scipy.io.savemat(path, content | {"utm": content["utm"][:1] + np.zeros_like(content["utm"])})  # everywhere alike
    output = succeeds("train_cvact.py", **TINY, network_type="VGG_gp", epochs=1, batch_hard_count=2, cwd=own_towns)
    assert "the loss of this batch is 0" in output and "finished 1 epochs" in output
    assert [float(row["loss"]) for row in rows_of(own_towns / "Result/CVACT/VGG_gp_polar_1.csv")] == [0]


def test_a_folder_of_results_that_cannot_be_written_is_found_before_the_first_epoch(here):
    (here / "Result").mkdir()
    os.symlink("/sys/kernel", here / "Result/CVUSA")  # exists, and takes no files
    assert "SAFA_8_polar_1.csv: Permission denied" in complains("train_cvusa.py", **TINY, cwd=here)
    assert not (here / "Model/CVUSA/SAFA_8/polar_1/epochs.csv").exists()


def test_mistakes_are_found_before_anything_is_written(here):
    for words, expected in {
        "train_cvusa.py --network_type SAFA": "SAFA_8",
        "train_cvusa.py --batch_hard_count 40": "--batch_size",
        "train_cvusa.py --batch_size 25": "24 pairs are less than a batch",
        "train_cvusa.py --init nothing.h5": "nothing.h5",
        "train_cvusa.py --start_epoch 3": "the same command continues",
        "train_cvact.py --data_dir empty": "ACT_data.mat: not found",
        "test_cvact.py --checkpoint last": "no training run",
        "test_cvact.py --checkpoint ./last": "./last: no checkpoint of this name",
    }.items():
        assert expected in complains(*words.split(), cwd=here) and os.listdir(here) == ["Data"]


def test_runs_with_names_and_seeds_lie_beside_each_other(trained, here):
    run_folder = here / "Model/CVUSA/SAFA_2/polar_1_low_seed_2"
    shutil.copytree(trained / "Model/CVUSA/SAFA_2/polar_1", run_folder)
    settings = run_folder / "config.json"
    settings.write_text(settings.read_text().replace('"seed": 0', '"seed": 2'))
    assert "were finished before" in succeeds("train_cvusa.py", **FLAGS, seed=2, run="low", cwd=here)
    output = succeeds("test_cvusa.py", network_type="SAFA_2", seed=2, run="low", cwd=here)
    assert "checkpoint: Model/CVUSA/SAFA_2/polar_1_low_seed_2/best/ckpt-" in output
    names = [f"SAFA_2_polar_1_low_seed_2.{kind}" for kind in ("csv", "descriptors", "json")]
    assert sorted(os.listdir(here / "Result/CVUSA")) == names
    message = complains("test_cvusa.py", network_type="SAFA_2", seed=3, run="low", cwd=here)
    assert "polar_1_low_seed_3" in message and "there are polar_1_low_seed_2" in message
    for flag in "--data_dir=", "--prepared_dir=", *(f"--run={name}" for name in ("", "../up", "a/b", "-x", "x" * 61)):
        refuses(flag.partition("=")[0], training_parser("", CVUSA).parse_args, [flag])


def test_data_that_cannot_be_used_are_found_before_training(own_towns):
    path = own_towns / "Data/CVUSA/streetview/panos/0000030.jpg"
    path.write_bytes(path.read_bytes()[:-1000])
    assert "0000030.jpg" in complains("train_cvusa.py", **TINY, cwd=own_towns)
    path.unlink()
    assert "0000030.jpg" in complains("train_cvusa.py", **TINY, cwd=own_towns)
    split = own_towns / "Data/CVUSA/splits/val-19zl.csv"
    split.write_text(split.read_text() + "bingmap/19/0000099.jpg\n")
    assert "line 11" in complains("train_cvusa.py", **TINY, cwd=own_towns)


# With dropout and averages, whose masks and values must go on too, and a checkpoint after every step.
RESUMED = "train_cvact.py"
EXACT = SHALLOW | {"keep_prob": 0.8, "ema": 0.9, "network_type": "VGG_gp", "epochs": 2, "deterministic": True, "save_every": 1}


@pytest.fixture(scope="module")
def uninterrupted(towns, tmp_path_factory):
    """A folder with a run that was not stopped. Not to be changed."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    os.symlink(towns / "Data", folder / "Data")
    succeeds(RESUMED, **EXACT, cwd=folder)
    return folder


def assert_same(folder, other):
    """The same tensors in the newest checkpoint, and the same lines but for the seconds."""
    found, expected = (tensors_of(each / "Model/CVACT/VGG_gp/polar_1") for each in (folder, other))
    assert sorted(found) == sorted(expected)
    for key, tensor in found.items():
        np.testing.assert_array_equal(tensor, expected[key], err_msg=key)
    found, expected = (rows_of(each / "Result/CVACT/VGG_gp_polar_1.csv") for each in (folder, other))
    assert len(found) == 2 and [row | {"seconds": 0} for row in found] == [row | {"seconds": 0} for row in expected]


def test_a_run_that_is_killed_and_meets_a_full_disk_ends_with_the_same_bits(uninterrupted, here):
    run_folder = here / "Model/CVACT/VGG_gp/polar_1"
    process = start(RESUMED, **EXACT, cwd=here)
    wait_until((run_folder / "ckpt-2.index").exists, process)
    time.sleep(random.random() / 20)  # somewhere in a step, a validation or the writing of a checkpoint
    process.kill()
    assert process.wait() == -signal.SIGKILL
    size = max(path.stat().st_size for path in run_folder.glob("ckpt-*.data*"))
    line = complains(RESUMED, **EXACT, before=functools.partial(no_file_grows_beyond, size // 2), cwd=here)
    assert "cannot be written" in line and "free some space" in line
    assert "going on after epoch" in succeeds(RESUMED, **EXACT, cwd=here)
    assert_same(here, uninterrupted)
    settings = json.loads((run_folder / "config.json").read_text())
    first, _, _ = settings["sessions"]
    assert first["packages"]["tensorflow"] and first["command"][0] == RESUMED and settings["data"]["train_pairs"] == 24


@pytest.mark.parametrize("number, code, moment", [(signal.SIGHUP, 129, "step 1"), (signal.SIGINT, 130, "step 3")])
def test_a_signal_saves_first_and_the_run_goes_on_with_the_same_bits(uninterrupted, here, number, code, moment):
    flags = EXACT | {"save_every": "10min", "log_every": 1}  # nothing else saves within an epoch
    process = start(RESUMED, **flags, cwd=here)
    next(line for line in process.stdout if line.startswith(f"epoch 2, {moment}"))  # after the third comes the validation
    process.send_signal(number)
    _, errors = process.communicate()
    assert process.returncode == code
    assert f"stopped by {number.name}; epoch 2 is saved" in errors and "Traceback" not in errors
    assert "going on after epoch" in succeeds(RESUMED, **EXACT, cwd=here)
    assert_same(here, uninterrupted)


def test_a_signal_that_ends_who_reads_the_lines_too_is_noted_all_the_same():
    before, (read, write) = [os.dup(stream) for stream in (1, 2)], os.pipe()
    for stream in (1, 2):
        os.dup2(write, stream)
    os.close(write)
    try:
        with StopRequest() as stop:
            reader = threading.Timer(0.02, os.close, [read])  # python train_cvusa.py 2>&1 | tee, and Ctrl-C
            reader.start()
            signal.raise_signal(signal.SIGINT)
            reader.join()
            for stream in (1, 2):
                os.write(stream, b"epoch 1, step 100 of 1110\n")
    finally:
        for stream, earlier in zip((1, 2), before, strict=True):
            os.dup2(earlier, stream)
            os.close(earlier)
    assert stop.signal == signal.SIGINT


def test_other_settings_other_data_and_a_second_run_in_the_folder_are_refused(uninterrupted, here):
    assert "--clip_norm None, not 2.0; use the former" in complains(RESUMED, **EXACT | {"clip_norm": 2}, cwd=uninterrupted)
    shutil.copytree(uninterrupted / "Model", here / "Model")
    settings = here / "Model/CVACT/VGG_gp/polar_1/config.json"
    with locked(str(settings.parent), ""):
        assert "another run is training there" in complains(RESUMED, **EXACT, cwd=here)
    content, gone = settings.read_text(), EXACT | {"init": "gone.h5"}
    settings.write_text(content.replace('"train_pairs": 24', '"train_pairs": 30'))
    assert "train_pairs 30, and now 24" in complains(RESUMED, **EXACT, cwd=here)
    settings.write_text(content.replace('"init": "random"', '"init": "gone.h5"'))  # which it began with, and needs no more
    assert "gone.h5: no checkpoint" in complains(RESUMED, **gone, model_dir="New", cwd=here)
    assert "were finished before" in succeeds(RESUMED, **gone, cwd=here)


def test_a_cache_that_the_memory_cannot_hold_is_refused(monkeypatch):
    of_the_paper = types.SimpleNamespace(sat_paths=range(44_416), grd_paths=range(44_416))
    monkeypatch.setattr("os.sysconf", {"SC_PAGE_SIZE": 2**12, "SC_PHYS_PAGES": 2**22}.get)  # 16 GiB
    refuses("18.4 GB, and this machine has 17.2", check_cache, NetworkConfig(), of_the_paper)


def test_a_run_goes_on_with_its_pairs_wherever_they_lie_and_with_no_others(uninterrupted, own_towns):
    shutil.copytree(uninterrupted / "Model", own_towns / "Model")
    train, val = (CVACT(own_towns / "Data").pairs(split) for split in ("train", "val"))
    elsewhere = [f"/else/{os.path.basename(path).upper()}" for path in train.grd_paths]
    own, near = data_identity(train, val), [np.array([row]) for row in range(24)]
    assert data_identity(dataclasses.replace(train, grd_paths=elsewhere), val) == own
    for change in {"grd_paths": train.sat_paths}, {"utm": train.utm + 1}, {"acceptable": near}, {"acceptable": near[::-1]}:
        other = data_identity(dataclasses.replace(train, **change), val)
        assert [name for name, value in own.items() if other[name] != value] == ["train_rows"]
    os.rename(val.grd_paths[0], own_towns / "kept")
    assert "val_pairs 10, and now 9" in complains(RESUMED, **EXACT, skip_missing=True, cwd=own_towns)
    succeeds("data_preparation.py", dataset="cvact", no_stretch=True, overwrite=True, workers=1, cwd=own_towns)
    assert "stretched_polar_maps True, and now False" in complains(RESUMED, **EXACT, cwd=own_towns)
    flags = {"tiles": "tiles.csv", "checkpoint": "Model/CVACT/VGG_gp/polar_1", "no_stretch": True}
    assert "was trained on polar maps with" in complains("localize.py", "build", "index", **flags, cwd=own_towns)
    assert "polar maps of the other kind" in succeeds("test_cvact.py", network_type="VGG_gp", skip_missing=True, cwd=own_towns)
