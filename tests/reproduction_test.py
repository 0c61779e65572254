"""A whole table with one command: stopped anywhere it goes on, and one row's failure is not the others'."""

import json
import os
import re
import shutil
import signal

import numpy as np
import pytest
from conftest import ROOT, TINY, complains, refuses, rows_of, run, start, succeeds, wait_until

import reproduce
from safa.datasets.cvusa import CVUSA
from safa.report.result_file import pack
from safa.training.checkpoint_files import checkpoint_digest

FLAGS = TINY | {"dataset": "cvusa", "rows": "VGG_gp", "polar": 1, "epochs": 1}
COPIES = "tests/programs/table_of_copies.py"


@pytest.fixture(scope="module")
def real(towns, tmp_path_factory):
    """A folder with a table of one row, and with steps that copy it. Not to be changed."""
    folder = tmp_path_factory.mktemp("real")
    os.symlink(towns / "Data", folder / "Data")
    for name in "data_preparation.py", "check_data.py", "train_cvusa.py", "test_cvusa.py":
        os.symlink(os.path.join(ROOT, COPIES), folder / name)
    succeeds(COPIES, folder, **FLAGS, cwd=folder)
    return folder


@pytest.fixture
def copies(real, monkeypatch):
    """The folder of steps that copy the real row."""
    monkeypatch.setenv("REAL", str(real))
    return real


def networks_of_table(folder):
    return [row["network_type"] for row in rows_of(folder / "Result/CVUSA/tables/tables.csv")]


def calls(folder):
    """The steps since the last question: script, row, polar and seed of each."""
    lines = (folder / "calls").read_text().splitlines()
    (folder / "calls").write_text("")
    return [re.sub(r"\.py .*?(?:--network_type (\S+) --polar (\d) --seed (\d).*|$)", r" \1 \2 \3", line) for line in lines]


def test_one_command_prepares_checks_trains_tests_and_writes_the_table(real):
    assert networks_of_table(real) == ["VGG_gp"]
    for name in ("tables.md", "tables.tex", "curves.png", "curves.pdf", "training.png"):
        assert (real / "Result/CVUSA/tables" / name).stat().st_size > 300
    log = (real / "Result/CVUSA/logs/VGG_gp_polar_1.log").read_text()
    assert log.count("$ python ") == 2 and "finished 1 epochs" in log and "R@1" in log


def test_the_table_has_a_row_for_each_network_and_what_is_finished_is_not_started_again(copies, tmp_path):
    flags = FLAGS | {"rows": "VGG_gp,SAFA_1", "seeds": 1}
    first = succeeds(COPIES, copies, **flags, cwd=tmp_path)
    assert re.search(r"row 2 of 2, ends about \w{3} \d\d:\d\d: SAFA_1 polar 1 seed 1, see \S+SAFA_1_polar_1_seed_1.log", first)
    both = [f"{script} {row}" for row in ("VGG_gp 1 1", "SAFA_1 1 1") for script in ("train_cvusa", "test_cvusa")]
    assert [line.strip() for line in calls(tmp_path)] == ["data_preparation", "check_data", *both]
    result = tmp_path / "Result/CVUSA/VGG_gp_polar_1_seed_1.json"
    os.utime(result, (0, 0))  # the checkpoint is from the future
    again = succeeds(COPIES, copies, **flags, cwd=tmp_path)
    assert not calls(tmp_path) and "2 of 2 rows were finished before" in again
    assert again.partition("CVUSA val")[2] == first.partition("CVUSA val")[2]
    for name, other in ("checkpoint_digest", "of others"), ("precision", "tf32"):  # which the user tested since
        result.write_text(re.sub(f'"{name}": "[^"]*"', f'"{name}": "{other}"', result.read_text()))
        succeeds(COPIES, copies, **flags, cwd=tmp_path)
        assert [line.split()[0] for line in calls(tmp_path)] == ["data_preparation", "check_data", "test_cvusa"]
    run_folder = tmp_path / "Model/CVUSA/VGG_gp/polar_1_seed_1"  # as if of fewer epochs, whose best were these weights
    (index := run_folder / "best/ckpt-1.index").write_bytes(index.read_bytes().replace(b"kernel", b"KERNEL"))
    result.write_text(json.dumps(json.loads(result.read_text()) | {"checkpoint_digest": checkpoint_digest(str(index)[:-6])}))
    (run_folder / "final.weights.h5").unlink()
    succeeds(COPIES, copies, **flags, cwd=tmp_path)
    assert [line.split()[0] for line in calls(tmp_path)] == ["data_preparation", "check_data", "train_cvusa", "test_cvusa"]


def test_rows_that_were_finished_on_other_data_or_with_more_epochs_are_refused(real, towns, tmp_path):
    shutil.copytree(real, tmp_path, symlinks=True, dirs_exist_ok=True)
    shutil.copytree(towns / "Data/CVUSA", tmp_path / "Other/CVUSA")
    rows = tmp_path / "Other/CVUSA/splits/val-19zl.csv"
    rows.write_text("\n".join(rows.read_text().splitlines()[:-1]))
    assert "val_pairs 10, and now 9" in complains("reproduce.py", **FLAGS, data_dir="Other", cwd=tmp_path)
    result = tmp_path / "Result/CVUSA/VGG_gp_polar_1.json"
    content = json.loads(result.read_text())
    for queries, finished in (10, 2), (9, 1):  # 9: of a test with --skip_missing
        ranks = {"exact": pack(np.zeros(queries)), "packed": content["ranks"]["packed"]}
        result.write_text(json.dumps(content | {"queries": queries, "ranks": ranks}))
        assert succeeds("reproduce.py", **FLAGS, dry_run=True, cwd=tmp_path).count("# finished") == finished
    own = tmp_path / "Model/CVUSA/VGG_gp/polar_1/epochs.csv"
    own.write_text(own.read_text() + own.read_text().splitlines()[-1].replace("1,", "2,", 1) + "\n")
    assert "holds 2 epochs, more than --epochs 1" in complains("reproduce.py", **FLAGS, cwd=tmp_path)


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_signal_ends_the_step_that_runs_then_the_table_which_goes_on_from_there(copies, tmp_path, monkeypatch, number, code):
    monkeypatch.setenv("WAITS", "SAFA_1")
    flags = FLAGS | {"rows": "VGG_gp,SAFA_1,SAFA_2"}
    process = start(COPIES, copies, **flags, cwd=tmp_path)
    pid = tmp_path / "pid"
    wait_until(lambda: pid.exists() and pid.read_text(), process)
    training = int(pid.read_text())
    process.send_signal(number)
    if number == signal.SIGKILL:
        os.kill(training, number)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == code
    if number != signal.SIGKILL:
        assert not os.path.exists(f"/proc/{training}")
        assert f"stopped by {number.name}" in errors and "goes on from there" in errors and errors.count("\n") == 1
        assert f"saved after {number.name}" in (tmp_path / "Result/CVUSA/logs/SAFA_1_polar_1.log").read_text()
    assert not (tmp_path / "Result/CVUSA/tables").exists() and "SAFA_2" not in (tmp_path / "calls").read_text()
    monkeypatch.delenv("WAITS")
    calls(tmp_path)
    succeeds(COPIES, copies, **flags, cwd=tmp_path)
    assert networks_of_table(tmp_path) == ["VGG_gp", "SAFA_1", "SAFA_2"] and "VGG_gp" not in "".join(calls(tmp_path))


def test_problems_of_data_stop_the_table_before_training_and_a_failing_row_leaves_others_alone(copies, tmp_path, monkeypatch):
    flags = FLAGS | {"rows": "VGG_gp,SAFA_1", "cwd": tmp_path}
    monkeypatch.setenv("FAILS", "check_data.py")
    process = run(COPIES, copies, **flags)
    assert process.returncode == 2 and "--ignore_problems" in process.stderr and len(calls(tmp_path)) == 2
    monkeypatch.setenv("FAILS", "check_data.py VGG_gp")
    process, log = run(COPIES, copies, **flags, ignore_problems=True), "Result/CVUSA/logs/VGG_gp_polar_1.log"
    assert process.returncode == 1 and networks_of_table(tmp_path) == ["SAFA_1"]
    line = f"VGG_gp polar 1 seed 0: train_cvusa.py ended with exit code 1: and a reason ({log})"
    assert process.stderr == f"some lines\nand a reason\n{line}\n"  # the checks' own, then the row's


def test_a_dry_run_prints_the_commands_and_does_nothing(real, tmp_path):
    flags = FLAGS | {"dataset": "cvact", "seeds": 1, "act_data": "a b.mat", "devices": 1, "dry_run": True}
    network = " ".join(f"--{name} {value}" for name, value in TINY.items())
    assert succeeds("reproduce.py", **flags, cwd=tmp_path).splitlines() == [
        "python data_preparation.py --dataset cvact",
        "python check_data.py --dataset cvact --act_data 'a b.mat'",
        f"python train_cvact.py --network_type VGG_gp --polar 1 --seed 1 {network} --epochs 1 --act_data 'a b.mat' --devices 1",
        "python test_cvact.py --network_type VGG_gp --polar 1 --seed 1 --checkpoint best --devices 1 --act_data 'a b.mat'",
    ]
    assert not os.listdir(tmp_path)
    assert succeeds("reproduce.py", **FLAGS, dry_run=True, cwd=real).count("  # finished\n") == 2


def test_mistakes_are_found_before_the_first_step(real, tmp_path, monkeypatch):
    monkeypatch.setitem(reproduce.TRAINED, "third", CVUSA)  # a dataset that is registered, and has no scripts
    monkeypatch.setattr("sys.argv", ["reproduce.py", "--dataset", "third", "--dry_run"])
    refuses(r"train_third\.py: not found; copy train_cvusa\.py .* CVUSA of safa\.datasets\.cvusa ", reproduce.main)
    for flags, expected in (
        ({"rows": "SAFA_8,SAFA_x"}, "SAFA_x"),
        ({"warmup_epochs": 9}, "--warmup_epochs"),
        ({"network_type": "SAFA_8"}, "--rows"),
        ({"no_such_flag": True}, "--no_such_flag"),
    ):
        assert expected in complains("reproduce.py", **FLAGS | flags, cwd=tmp_path)
    assert not os.listdir(tmp_path)
    line = "--learning_rate 0.001, not 0.0001"
    assert line in complains("reproduce.py", **FLAGS | {"learning_rate": 1e-4}, cwd=real)
