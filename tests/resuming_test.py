"""A run that was stopped, by a kill, a signal or a full disk, ends as if nothing had happened."""

import functools
import json
import os
import random
import shutil
import signal
import time

import numpy as np
import pytest
from conftest import SHALLOW, complains, rows_of, start, succeeds, tensors_of, wait_until
from forked_scripts import no_file_grows_beyond

from safa.runtime.files import locked
from safa.training.run_folder import RunPaths

# With dropout and averages, whose masks and values must go on too, and a checkpoint after every step.
SCRIPT = "train_cvact.py"
FLAGS = SHALLOW | {"keep_prob": 0.8, "ema": 0.9, "network_type": "SAFA_1", "epochs": 2, "deterministic": True, "save_every": 1}


@pytest.fixture(scope="module")
def uninterrupted(towns, tmp_path_factory):
    """A folder with a run that was not stopped. Not to be changed."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    os.symlink(towns / "Data", folder / "Data")
    succeeds(SCRIPT, **FLAGS, cwd=folder)
    return folder


def assert_same(folder, other):
    """The same tensors in the newest checkpoint, and the same lines but for the seconds."""
    found, expected = (tensors_of(each / "Model/CVACT/SAFA_1/polar_1") for each in (folder, other))
    assert sorted(found) == sorted(expected)
    for key, tensor in found.items():
        np.testing.assert_array_equal(tensor, expected[key], err_msg=key)
    found, expected = (rows_of(each / "Result/CVACT/SAFA_1_polar_1.csv") for each in (folder, other))
    assert len(found) == 2 and [row | {"seconds": 0} for row in found] == [row | {"seconds": 0} for row in expected]


def test_a_run_that_is_killed_and_meets_a_full_disk_ends_with_the_same_bits(uninterrupted, here):
    run_folder = here / "Model/CVACT/SAFA_1/polar_1"
    process = start(SCRIPT, **FLAGS, cwd=here)
    wait_until((run_folder / "ckpt-2.index").exists, process)
    time.sleep(random.random() / 20)  # somewhere in a step, a validation or the writing of a checkpoint
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    size = max(path.stat().st_size for path in run_folder.glob("ckpt-*.data*"))
    line = complains(SCRIPT, **FLAGS, before=functools.partial(no_file_grows_beyond, size // 2), cwd=here)
    assert "cannot be written" in line and "free some space" in line
    assert "going on after epoch" in succeeds(SCRIPT, **FLAGS, cwd=here)
    assert_same(here, uninterrupted)
    settings = json.loads((run_folder / "config.json").read_text())
    assert len(settings["sessions"]) == 3 and settings["sessions"][0]["packages"]["tensorflow"]
    assert settings["sessions"][0]["command"][0] == "train_cvact.py" and settings["data"]["train_pairs"] == 24


@pytest.mark.parametrize("number, code, moment", [(signal.SIGTERM, 143, "step 1"), (signal.SIGINT, 130, "step 3")])
def test_a_signal_saves_first_and_the_run_goes_on_with_the_same_bits(uninterrupted, here, number, code, moment):
    flags = FLAGS | {"save_every": "10min", "log_every": 1}  # nothing else saves within an epoch
    process = start(SCRIPT, **flags, cwd=here)
    for line in process.stdout:
        if line.startswith(f"epoch 2, {moment}"):  # after the third step comes the validation
            process.send_signal(number)
            break
    _, errors = process.communicate()
    assert process.returncode == code
    assert f"stopped by {number.name}; epoch 2 is saved" in errors and "Traceback" not in errors
    assert "going on after epoch" in succeeds(SCRIPT, **FLAGS, cwd=here)
    assert_same(here, uninterrupted)


def test_other_settings_other_data_and_a_second_run_in_the_folder_are_refused(uninterrupted, here):
    assert "--clip_norm None, not 2.0" in complains(SCRIPT, **FLAGS | {"clip_norm": 2}, cwd=uninterrupted)
    shutil.copytree(uninterrupted / "Model", here / "Model")
    settings = here / "Model/CVACT/SAFA_1/polar_1/config.json"
    with locked(RunPaths(str(settings.parent), "", "").lock, ""):
        assert "another run is training there" in complains(SCRIPT, **FLAGS, cwd=here)
    settings.write_text(settings.read_text().replace('"train_pairs": 24', '"train_pairs": 30'))
    assert "train_pairs 30, and now 24" in complains(SCRIPT, **FLAGS, cwd=here)
