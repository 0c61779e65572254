"""Queries that are corrupted as the benchmark of robustness corrupts them."""

import functools
import json
import os
import re
import shutil

import pytest
from conftest import TINY, complains, contents, refuses, run, succeeds
from forked_scripts import two_corruptions, with_corruptions

from safa.datasets.corruptions import QueryView

SAFA = {"network_type": "SAFA_1"}


@pytest.fixture(scope="module")
def trained(towns, tmp_path_factory):
    """A folder with a network trained on CVACT's toy town, its clean test, and the whole grid."""
    folder = tmp_path_factory.mktemp("trained")
    os.symlink(towns / "Data", folder / "Data")
    succeeds("train_cvact.py", **TINY, **SAFA, epochs=4, cwd=folder)
    succeeds("test_cvact.py", **SAFA, cwd=folder)
    return folder


def result(folder, name=""):
    return json.loads((folder / f"Result/CVACT/SAFA_1_polar_1{name}.json").read_text())


def ranks(folder, name=""):
    return result(folder, name)["ranks"], result(folder, name)["recall"]


def test_severity_0_and_a_corruption_that_changes_nothing_give_the_clean_ranks(trained):
    clean = ranks(trained)
    given = {**SAFA, "cwd": trained, "before": with_corruptions}
    succeeds("test_cvact.py", corruption="fog", severity=0, **given)
    assert ranks(trained) == clean
    succeeds("test_cvact.py", corruption="contrast", severity=5, **given)  # the stand-in's, with panoramas as published
    assert ranks(trained, "_contrast_5") == clean
    succeeds("test_cvact.py", corruption="fog", severity=5, **given)
    assert ranks(trained, "_fog_5")[0] != clean[0]


def test_a_draw_is_the_same_in_every_test_whatever_its_batches_are(trained):
    drawn = []
    for batch_size in (32, 3):
        flags = {"corruption": "c_all", "descriptors": "memory", "batch_size": batch_size}
        succeeds("test_cvact.py", **flags, **SAFA, cwd=trained, before=with_corruptions)
        drawn.append(ranks(trained, "_c_all"))
    assert drawn[0] == drawn[1]


def test_a_killed_grid_goes_on_ends_in_one_table_and_is_tested_again_with_another_radius(trained, tmp_path):
    given = {**SAFA, "corruption": "all", "report": True, "result_dir": tmp_path, "cwd": trained, "before": two_corruptions}
    killed = run("test_cvact.py", **given | {"before": functools.partial(two_corruptions, batches=2)})
    assert killed.returncode == -9, killed.stderr
    kept = contents(tmp_path / "CVACT")
    results = sorted(name for name in kept if name.endswith(".json") and "/" not in name)
    assert results == ["SAFA_1_polar_1_contrast_1.json"]  # after the references' batch
    again = succeeds("test_cvact.py", **given)
    assert again.count("fog ") >= 2 and "contrast 2:" in again and "contrast 1:" not in again and "mean" in again
    files = sorted(path.name for path in (tmp_path / "CVACT").glob("*.json"))
    assert len(files) == 5 and "SAFA_1_polar_1_fog_2.json" in files  # 2 x 2 and the clean one
    assert "Corrupted queries" in (tmp_path / "CVACT/SAFA_1_polar_1.html").read_text()
    assert all((tmp_path / "CVACT" / name).read_bytes() == kept[name] for name in results)
    succeeds("test_cvact.py", **given, radius=30)
    assert all("recall_within_30m" in (tmp_path / "CVACT" / name).read_text() for name in files)
    assert "fog" in succeeds("recall_tables.py", result_dir=tmp_path, cwd=trained)


def test_a_grid_tests_again_what_images_were_replaced_of(trained, tmp_path):
    folders = [f"{each}/{severity}" for each in ("contrast", "fog") for severity in "12"]
    for each in folders:
        shutil.copytree(trained / "Data/ANU_data_small/streetview", tmp_path / "queries" / each)
    given = {**SAFA, "corruption": "all", "queries_dir": tmp_path / "queries", "result_dir": tmp_path, "cwd": trained}
    for changed in folders, ["fog/2"]:
        output = succeeds("test_cvact.py", **given, before=two_corruptions)
        assert re.findall("files (.*) (.): R@1", output) == [tuple(each.split("/")) for each in changed]
        for path in (tmp_path / "queries/fog/2").iterdir():
            os.utime(path, (1, 1))


def test_mistakes_are_one_line(trained, monkeypatch):
    monkeypatch.chdir(trained)
    for flags, text in (
        ({"corruption": "fog"}, "--severity"),
        ({"severity": 3}, "--severity"),
        ({"corruption": "all", "severity": 3}, "--severity"),
        ({"queries_dir": "x"}, "--corruption"),
        ({"corruption": "fog", "severity": 0, "queries_dir": "Data"}, "--severity from 1"),
        ({"corruption": "fog", "severity": 1, "queries_dir": "nowhere"}, "no folder nowhere; name another"),
        ({"corruption": "all", "queries_dir": "Data"}, "no folder Data/snow/1, Data/snow/2"),
    ):
        refuses(text, QueryView(**flags).check_corruption)
    assert "--severity" in complains("test_cvact.py", **SAFA, severity=3, cwd=trained)
    process = run("test_cvact.py", corruption="fog", severity=1, **SAFA, cwd=trained)
    assert process.returncode in (0, 2) and "Traceback" not in process.stderr  # with the package, or one line how to install it
