"""A run folder made by an earlier version, with a run that was stopped in its second epoch, goes on and is tested."""

import csv
import json
import os
import pathlib
import shutil

from conftest import succeeds

EARLIER = pathlib.Path(__file__).parent / "earlier_run"  # train_cvusa.py with FLAGS, stopped by SIGTERM
FLAGS = {
    "height": 32,
    "width": 64,
    "width_multiplier": 0.015625,
    "init": "random",
    "learning_rate": 1e-3,
    "batch_size": 8,
    "network_type": "SAFA_1",
    "epochs": 3,
    "deterministic": True,
    "save_every": 1,
}


def test_an_earlier_versions_run_is_tested_goes_on_and_keeps_its_lines(towns, tmp_path):
    os.symlink(towns / "Data", tmp_path / "Data")
    shutil.copytree(EARLIER, tmp_path, dirs_exist_ok=True)
    result = pathlib.Path("Result/CVUSA/SAFA_1_polar_1.csv")
    assert "checkpoint: Model/CVUSA/SAFA_1/polar_1/best/ckpt-1" in succeeds(
        "test_cvusa.py", network_type="SAFA_1", cwd=tmp_path
    )
    tested = json.loads((tmp_path / result.with_suffix(".json")).read_text())
    with open(tmp_path / result, newline="") as file:
        epochs = list(csv.DictReader(file))
    assert f"{tested['recall']['1']:.6f}" == epochs[0]["recall@1"]
    output = succeeds("train_cvusa.py", **FLAGS, cwd=tmp_path)
    assert "going on after epoch 1 of 3 and 3 steps" in output and "finished 3 epochs" in output
    with open(tmp_path / result, newline="") as file:
        assert list(csv.DictReader(file))[:1] == epochs
    settings = json.loads((tmp_path / "Model/CVUSA/SAFA_1/polar_1/config.json").read_text())
    assert len(settings["sessions"]) == 2
