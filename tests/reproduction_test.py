"""A whole table with one command: stopped anywhere it goes on, and one row's failure is not the others'."""

import csv
import io
import json
import os
import re
import shutil
import signal
import sys
import time

import pytest
from conftest import SMALL, complains, run, start, succeeds

from safa.launch import reproduction
from safa.launch.table_runs import Run
from safa.report.epoch_lines import COLUMNS
from safa.settings import NetworkConfig, Settings, TrainingConfig
from safa.training.run_folder import run_paths

# Two rows of two epochs, whose bits are the same in every run.
FLAGS = SMALL | {"dataset": "cvusa", "rows": "VGG_gp,SAFA_1", "polar": 1, "epochs": 2, "deterministic": True, "save_every": 1}
FLAGS |= {"ignore_problems": True}  # ten pairs are too few for the checks of orientation


def table(folder):
    """The table's rows, without the measured milliseconds."""
    with open(folder / "Result/CVUSA/tables/tables.csv", newline="") as file:
        return [row[:-1] for row in csv.reader(file)]


@pytest.fixture(scope="module")
def uninterrupted(towns, tmp_path_factory):
    """A folder with a table that was made without a stop. Not to be changed."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    os.symlink(towns / "Data", folder / "Data")
    output = succeeds("reproduce.py", **FLAGS, cwd=folder)
    assert "row 2 of 2, SAFA_1 polar 1 seed 0: finished" in output
    return folder


@pytest.fixture
def own(uninterrupted, tmp_path):
    """A folder with the same data."""
    os.symlink(uninterrupted / "Data", tmp_path / "Data")
    return tmp_path


@pytest.fixture
def with_first_row(uninterrupted, own):
    """The same with the first row finished."""
    shutil.copytree(uninterrupted / "Model/CVUSA/VGG_gp", own / "Model/CVUSA/VGG_gp")
    shutil.copytree(uninterrupted / "Result/CVUSA", own / "Result/CVUSA", ignore=shutil.ignore_patterns("SAFA*", "tables"))
    return own


def children(process):
    with open(f"/proc/{process.pid}/task/{process.pid}/children") as file:
        return [int(number) for number in file.read().split()]


def in_second_row(folder):
    """Start the table and wait until its second row has trained for a step or more."""
    process = start("reproduce.py", **FLAGS, cwd=folder)
    deadline = time.monotonic() + 200
    while process.poll() is None and time.monotonic() < deadline:
        if list((folder / "Model/CVUSA/SAFA_1/polar_1").glob("ckpt-*.index")):
            break
        time.sleep(0.01)
    assert process.poll() is None, process.communicate()
    return process


def test_the_table_has_a_row_for_each_network(uninterrupted):
    rows = table(uninterrupted)
    assert [row[2] for row in rows[1:]] == ["VGG_gp", "SAFA_1"]
    for name in ("tables.md", "tables.tex", "curves.png", "curves.pdf"):
        assert (uninterrupted / "Result/CVUSA/tables" / name).stat().st_size > 500
    log = (uninterrupted / "Result/CVUSA/logs/SAFA_1_polar_1.log").read_text()
    assert log.count("$ python ") == 2 and "finished 2 epochs" in log and "R@1" in log


def test_a_machine_that_dies_in_the_second_row_changes_nothing_in_the_table(uninterrupted, with_first_row):
    own = with_first_row
    process = in_second_row(own)
    (training,) = children(process)
    for number in process.pid, training:
        os.kill(number, signal.SIGKILL)
    process.communicate()
    output = succeeds("reproduce.py", **FLAGS, cwd=own)
    assert table(own) == table(uninterrupted) and "row 1 of 2, VGG_gp polar 1 seed 0: finished" in output
    first_row = (own / "Result/CVUSA/logs/VGG_gp_polar_1.log").read_text()
    assert first_row.count("$ python ") == 2  # it was not started again
    second_row = (own / "Result/CVUSA/logs/SAFA_1_polar_1.log").read_text()
    assert "going on after epoch" in second_row


def test_a_training_that_lives_on_without_the_script_is_waited_for(uninterrupted, with_first_row):
    own = with_first_row
    process = in_second_row(own)
    (training,) = children(process)
    process.kill()
    process.communicate()
    os.kill(training, 0)  # it trains
    succeeds("reproduce.py", **FLAGS, cwd=own)
    assert table(own) == table(uninterrupted)
    log = (own / "Result/CVUSA/logs/SAFA_1_polar_1.log").read_text()
    assert "another run is training there" not in log


def test_a_signal_lets_the_training_save_and_ends_with_one_line(with_first_row):
    own = with_first_row
    process = in_second_row(own)
    training = children(process)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 143 and "goes on from there" in errors and "Traceback" not in errors
    assert not [each for each in training if os.path.exists(f"/proc/{each}")]
    log = (own / "Result/CVUSA/logs/SAFA_1_polar_1.log").read_text()
    assert "is saved" in log or "what was saved before is kept" in log
    assert not (own / "Result/CVUSA/tables").exists()


def test_a_result_that_names_no_checkpoint_is_tested_again(uninterrupted, tmp_path):
    paths = run_paths(str(uninterrupted / "Model"), str(tmp_path), "CVUSA", NetworkConfig("VGG_gp"))
    content = json.loads((uninterrupted / "Result/CVUSA/VGG_gp_polar_1.json").read_text())
    os.makedirs(tmp_path / "CVUSA")
    given = str(uninterrupted / content["checkpoint"])
    for checkpoint, tested in ((given, True), (f"{given}0", False), ("\0", False), ("\ud800", False), (7, False)):
        (tmp_path / "CVUSA/VGG_gp_polar_1.json").write_text(json.dumps(content | {"checkpoint": checkpoint}))
        assert Run(None, paths, None, [], []).is_tested == tested


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_one_line_says_which_row_trains_and_when_all_will_end(tmp_path, monkeypatch):
    """On a terminal of 80 columns: two rows of two epochs each, whose scripts write only what progress is read from.

    The first one's test fails.
    """
    monkeypatch.setattr(reproduction, "POLL_SECONDS", 0.02)
    monkeypatch.setattr("sys.stderr", Terminal())
    for name, size in (("COLUMNS", "80"), ("LINES", "24")):
        monkeypatch.setenv(name, size)
    script = tmp_path / "step.py"
    script.write_text(STEP)
    training = TrainingConfig(epochs=2)

    class Row(Run):
        is_tested = property(lambda self: os.path.exists(self.paths.json))

    runs = []
    for network in NetworkConfig("VGG_gp"), NetworkConfig("SAFA_1"):
        paths = run_paths(str(tmp_path / "Model"), str(tmp_path), "CVUSA", network)
        test = [str(script), "test", paths.json if runs else "nowhere/a.json"]
        runs.append(Row(Settings(network, training), paths, f"{paths.csv}.log", [str(script), "train", paths.folder], test))
    (failure,) = reproduction._train_and_test(runs)
    assert failure.startswith("VGG_gp polar 1 seed 0: test ended with exit code 1: FileNotFoundError")
    lines = re.split("[\r\n]", sys.stderr.getvalue())
    assert any(line.startswith("row 1 of 2, VGG_gp polar 1 seed 0: epoch 1 of 2 ") for line in lines), lines
    for begin in ("row 1 of 2, VGG_gp polar 1 seed 0: epoch 2 of 2", "row 2 of 2, SAFA_1 polar 1 seed 0: test"):
        assert any(re.match(begin + r", ends about \w{3} \d\d:\d\d", line) for line in lines), (begin, lines)


STEP = f"""
import os, sys, time
_, step, path = sys.argv
if step == "test":
    time.sleep(0.1)
    open(path, "w").close()
    sys.exit()
os.makedirs(path)
for epoch in range(3):
    lines = ["{",".join(COLUMNS)}", *(f"{{number}},0,0,0,0,0,0" for number in range(1, epoch + 1))]
    with open(os.path.join(path, ".csv"), "w") as file:
        file.write("\\n".join(lines))
    os.replace(file.name, os.path.join(path, "epochs.csv"))
    time.sleep(0.2)
open(os.path.join(path, "final.weights.h5"), "w").close()
"""


def test_what_is_finished_is_not_started_again(uninterrupted):
    before = (uninterrupted / "Model/CVUSA/SAFA_1/polar_1/config.json").read_text()
    begin = time.monotonic()
    output = succeeds("reproduce.py", **FLAGS, cwd=uninterrupted)
    assert output.count(": finished, ") == 2 and "data_preparation.py" not in output and time.monotonic() - begin < 10
    assert (uninterrupted / "Model/CVUSA/SAFA_1/polar_1/config.json").read_text() == before


def test_a_row_that_fails_leaves_the_others_alone(uninterrupted, own):
    shutil.copytree(uninterrupted / "Model", own / "Model")
    os.unlink(own / "Model/CVUSA/VGG_gp/polar_1/final.weights.h5")
    for path in (own / "Model/CVUSA/VGG_gp/polar_1").glob("ckpt-*"):
        os.truncate(path, 10)
    process = run("reproduce.py", **FLAGS, cwd=own)
    assert process.returncode == 1
    (line,) = process.stderr.strip().splitlines()
    assert line.startswith("VGG_gp polar 1 seed 0: training ended with exit code 2") and "VGG_gp_polar_1.log" in line
    assert "SAFA_1, polar" in process.stdout and [row[2] for row in table(own)[1:]] == ["SAFA_1"]


def test_a_dry_run_says_what_it_would_do_and_how_long_and_does_nothing(own):
    output = succeeds("reproduce.py", **FLAGS | {"seeds": 1}, dry_run=True, cwd=own)
    commands = [line for line in output.splitlines() if line.startswith("python ")]
    scripts = ["data_preparation.py", "check_data.py", *2 * ["train_cvusa.py", "test_cvusa.py"]]
    assert [line.split()[1] for line in commands] == scripts
    assert "--network_type SAFA_1 --polar 1 --seed 1" in commands[-1] and "--height 32" in commands[-2]
    assert "about 0.0 hours" in output and "s a step of 8 pairs" in output and "24 pairs" in output
    assert sorted(os.listdir(own)) == ["Data"]


def test_hours_are_said_without_the_dataset(tmp_path):
    output = succeeds("reproduce.py", **FLAGS | {"dataset": "cvact"}, dry_run=True, cwd=tmp_path)
    assert "train: 35,532 pairs (published; there is no list)" in output


def test_a_list_in_another_place_is_read_there(own_towns):
    os.rename(own_towns / "Data/ANU_data_small/ACT_data.mat", own_towns / "list.mat")
    os.unlink(next((own_towns / "Data/ANU_data_small/streetview").iterdir()))
    flags = FLAGS | {"dataset": "cvact", "act_data": "list.mat", "ignore_problems": False}
    assert "train: 24 pairs, val: 10 pairs" in succeeds("reproduce.py", **flags, dry_run=True, cwd=own_towns)
    process = run("reproduce.py", **flags, cwd=own_towns)  # as far as the check, which finds the panorama missing
    assert process.returncode == 2 and "check of the data ended with exit code 1" in process.stderr, process.stderr


def test_mistakes_are_found_before_the_first_step(uninterrupted, own):
    for flags, expected in (
        ({"rows": "SAFA_8,SAFA_x"}, "SAFA_x"),
        ({"polar": 2}, "--polar"),
        ({"seeds": -1}, "--seeds"),
        ({"epochs": 0}, "--epochs"),
        ({"warmup_epochs": 9}, "--warmup_epochs"),
        ({"train_fov": 1}, "--train_fov"),
        ({"network_type": "SAFA_8"}, "--rows"),
        ({"seed": 3}, "--seeds"),
        ({"no_such_flag": True}, "--no_such_flag"),
        ({"dataset": "cvact_test"}, "--dataset"),
        ({"data_dir": "nowhere"}, "nowhere"),
    ):
        assert expected in complains("reproduce.py", **FLAGS | flags, cwd=own)
    assert sorted(os.listdir(own)) == ["Data"]
    message = complains("reproduce.py", **FLAGS | {"learning_rate": 1e-4}, cwd=uninterrupted)
    assert "--learning_rate 0.001, not 0.0001" in message


def test_problems_of_the_data_stop_the_table_before_training(own_towns):
    os.unlink(own_towns / "Data/CVUSA/streetview/panos/0000030.jpg")
    process = run("reproduce.py", **FLAGS | {"ignore_problems": False}, cwd=own_towns)
    assert process.returncode == 2 and "--ignore_problems" in process.stderr and not (own_towns / "Model").exists()


def test_seeds_have_folders_of_their_own_and_an_earlier_run_stays_where_it_is(towns, tmp_path):
    os.symlink(towns / "Data", tmp_path / "Data")
    small = SMALL | {"network_type": "VGG_gp", "epochs": 1}
    succeeds("train_cvusa.py", **small, cwd=tmp_path)
    folder = tmp_path / "Model/CVUSA/VGG_gp/polar_1"
    note = folder / "config.json"
    note.write_text(note.read_text().replace('"seed": 0', '"seed": 7'))  # as earlier versions left a run of that seed
    assert "were finished before" in succeeds("train_cvusa.py", **small, seed=7, cwd=tmp_path)
    succeeds("train_cvusa.py", **small, seed=2, cwd=tmp_path)
    assert sorted(os.listdir(folder.parent)) == ["polar_1", "polar_1_seed_2"]
    message = complains("test_cvusa.py", network_type="VGG_gp", seed=3, cwd=tmp_path)
    assert "--seed 3" in message and "there are polar_1, polar_1_seed_2" in message
