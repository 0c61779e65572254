"""Checkpoints survive odd names, odd files, kills and full disks; what cannot be used is said in one line."""

import dataclasses
import functools
import json
import os
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import complains, contents, refuses
from forked_scripts import no_file_grows_beyond

import convert_weights
from safa.parts import build_network
from safa.report.epoch_lines import read_lines
from safa.runtime.distribution import Distribution
from safa.runtime.files import partial_path
from safa.settings import NetworkConfig, TrainingConfig
from safa.training.checkpoint_files import find_checkpoint, use_checkpoint
from safa.training.checkpoints import Progress, RunCheckpoints
from safa.training.run_folder import RunManifest, read_manifest
from safa.training.step import adam
from safa.training.variables import adam_variables
from safa.training.weights import load_weights, write_keras_weights

CONFIG = NetworkConfig("SAFA_1", 1, 32, 64, 64, 1 / 64)
FLAGS = [f"--{name}={value}" for name, value in dataclasses.asdict(CONFIG).items() if name != "polar"]
HOSTILE, FITS = "a*[1]q?\\z", "ab1qxz"  # a name, and what it fits too where it is taken for a pattern


@pytest.fixture(scope="module")
def model():
    return build_network(CONFIG, seed=1)


@functools.cache
def optimizer_of(model):
    optimizer = adam(1e-3)
    optimizer.build(model.trainable_variables)
    return optimizer


def saved_run(folder, model, times=1):
    """The checkpoints of a run that begins in a folder and saves its epochs 1 to `times`, each the best."""
    folder.mkdir(parents=True, exist_ok=True)
    run = RunCheckpoints(str(folder), model, optimizer_of(model), Distribution())
    for epoch in range(1, times + 1):
        run.save(Progress(epoch), best=True)
    return run


checkpoints = functools.partial(saved_run, times=0)


def indices(folder):
    return sorted(path.name for path in folder.glob("*.index"))


def test_a_folder_whose_name_is_a_pattern_keeps_its_own_checkpoints_and_no_others(model, tmp_path):
    saved_run(tmp_path / FITS, model)
    folder = tmp_path / HOSTILE
    saved_run(folder, model, times=5)
    assert indices(folder) == [f"ckpt-{number}.index" for number in (3, 4, 5)] and indices(folder / "best") == ["ckpt-5.index"]
    assert not [each for each in folder.rglob("*") if "partial" in each.name or "temp" in each.name]
    assert checkpoints(folder, model).restore()[:2] == (Progress(5), str(folder / "ckpt-5"))
    assert indices(tmp_path / FITS) == ["ckpt-1.index"]
    # And as a source and a target of other scripts.
    before = model.get_weights()
    convert_weights.main([str(folder), str(folder / f"{HOSTILE}.ckpt"), *FLAGS])
    convert_weights.main([str(folder / f"{HOSTILE}.ckpt"), str(folder / f"{HOSTILE}.weights.h5"), *FLAGS])
    other = build_network(CONFIG, seed=2)
    load_weights(other, *find_checkpoint(str(folder / f"{HOSTILE}.weights.h5")), CONFIG)
    assert all(map(np.array_equal, other.get_weights(), before))


@pytest.mark.parametrize("kind", ["Adagrad", "Nadam"])
def test_all_that_another_optimizer_keeps_is_saved_and_the_weights_are_converted(kind, model, tmp_path):
    optimizer = getattr(keras.optimizers, kind)()
    optimizer.build(model.trainable_variables)
    kept = {id(variable) for variable in adam_variables(model, optimizer).values()}
    assert all(id(each.value) in kept for each in optimizer.variables if each.name != "learning_rate")
    RunCheckpoints(str(tmp_path), model, optimizer, Distribution()).save(Progress(1))
    convert_weights.main([str(tmp_path), str(tmp_path / "theirs.ckpt"), *FLAGS])


def test_weights_of_which_a_network_would_leave_some_out_are_refused(model, tmp_path):
    write_keras_weights(path := str(tmp_path / "a.weights.h5"), model)
    for config in dataclasses.replace(CONFIG, network_type="VGG_gp"), dataclasses.replace(CONFIG, shared=1):
        refuses("holds 60 arrays.* has (52|34); name", load_weights, build_network(config), *find_checkpoint(path), config)


def test_the_newest_checkpoint_is_that_of_the_greatest_number_and_what_killed_runs_left_is_removed(model, tmp_path):
    saved_run(tmp_path, model, times=3)
    whole = {path.name for path in tmp_path.iterdir()}
    for place in tmp_path, tmp_path / "best":
        (partial := pathlib.Path(partial_path(str(place / "ckpt-9")))).mkdir()
        (partial / "weights.data-00000-of-00001").write_bytes(bytes(10))
    (tmp_path / "ckpt-4.data-00000-of-00001").write_bytes(bytes(10))  # killed before it got its index
    (tmp_path / "notes.partial").write_text("the user's")
    for path in tmp_path.rglob("*"):
        os.utime(path, (0, 0))  # whatever the clock says
    again = checkpoints(tmp_path, model)
    assert again.restore()[:2] == (Progress(3), str(tmp_path / "ckpt-3"))
    assert {path.name for path in tmp_path.iterdir()} == whole | {"notes.partial"}
    assert indices(tmp_path / "best") == ["ckpt-3.index"] and len(list((tmp_path / "best").iterdir())) == 3
    again.save(Progress(3))
    assert indices(tmp_path) == ["ckpt-2.index", "ckpt-3.index", "ckpt-4.index"]
    assert tf.train.latest_checkpoint(str(tmp_path)) == str(tmp_path / "ckpt-4")


@pytest.mark.parametrize("spoilt", ["*.index", "*.data-00000-of-00001", "ckpt-*"])
def test_a_folder_with_checkpoints_of_which_none_is_restored_never_starts_anew(spoilt, model, tmp_path):
    saved_run(tmp_path, model, times=2)
    for path in list(tmp_path.glob(spoilt)):
        path.rename(tmp_path / f"copy of {path.name}")
    before = sorted(tmp_path.iterdir())
    said = refuses("another --model_dir", checkpoints(tmp_path, model).restore)
    assert "remove" not in said and sorted(tmp_path.iterdir()) == before


def test_a_checkpoint_that_a_run_replaces_meanwhile_is_looked_for_again(model, tmp_path):
    best, run = tmp_path / "run/best", saved_run(tmp_path / "run", model)
    other, tried = build_network(CONFIG, seed=3), []

    def load(path, kind):
        if not tried:
            run.save(Progress(1), best=True)  # the training goes on while the test script starts TensorFlow
        tried.append(path)
        return load_weights(other, path, kind, CONFIG)

    use_checkpoint(str(best), load)
    assert tried == [str(best / "ckpt-1"), str(best / "ckpt-2")]
    replaced = str(best / "ckpt-2"), lambda *found: run.save(Progress(1), best=True) or load(*found)
    refuses("no checkpoint of this name", use_checkpoint, *replaced)  # and not: damaged
    (best / "ckpt-3.data-00000-of-00001").write_bytes(bytes(100))
    refuses("damaged", use_checkpoint, str(best), load)


READERS = {
    "config.json": read_manifest,
    "epochs.csv": lambda folder: read_lines(f"{folder}/epochs.csv"),
    **dict.fromkeys(("ckpt-1.index", "ckpt-1.data-00000-of-00001"), find_checkpoint),
}


@pytest.mark.parametrize("name", READERS)
def test_a_pipe_in_the_place_of_a_file_is_refused(name, model, tmp_path, in_time):
    saved_run(tmp_path, model)
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    refuses(f"{name}: .*pipe", READERS[name], str(tmp_path))
    if name.startswith("ckpt"):
        refuses("no checkpoint that the run can go on from", checkpoints(tmp_path, model).restore)


SETTINGS = json.dumps(dataclasses.asdict(RunManifest(CONFIG, TrainingConfig(), {}, [], "CVUSA", "1.0.0")), indent=2)


def test_settings_that_are_none_are_named(tmp_path):
    (tmp_path / "config.json").write_text(SETTINGS)
    assert read_manifest(str(tmp_path)).network == CONFIG
    for part, other in (
        (SETTINGS, "[" * 100_000),
        (SETTINGS, ""),
        ('"height": 32', '"height": "32"'),
        ('"height": 32', f'"height": {10**30}'),
        ("0.015625", "NaN"),
        ('"sessions": []', '"sessions": "none"'),
    ):
        (tmp_path / "config.json").write_text(SETTINGS.replace(part, other))
        refuses("config.json: not what this project writes there", read_manifest, str(tmp_path))
    refuses("not UTF-8", convert_weights.main, [os.fsdecode(b"mod\xe8le.ckpt"), "ours.weights.h5"])


def test_a_full_disk_ends_a_conversion_with_a_line_the_target_stays_and_no_read_only_tmp_is_used(model, tmp_path, monkeypatch):
    saved_run(tmp_path / "run", model)
    for target in "a.weights.h5", "b.ckpt":
        convert_weights.main([str(tmp_path / "run"), str(tmp_path / target), *FLAGS])
    before, full_disk = contents(tmp_path), functools.partial(no_file_grows_beyond, 20_000)
    for target in ("a.weights.h5", "b.ckpt"):
        words = "run/ckpt-1", target, "--overwrite", *FLAGS
        assert f"{target}: " in complains("convert_weights.py", *words, before=full_disk, cwd=tmp_path)  # no crash at its end
    assert contents(tmp_path) == before
    monkeypatch.setattr("os.access", lambda *_: False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    refuses("/temporary/", saved_run, tmp_path / "other", model)
