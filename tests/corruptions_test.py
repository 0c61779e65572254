"""Queries that are corrupted as the benchmark of robustness corrupts them."""

import functools
import json
import os
import re
import shutil

from conftest import complains, contents, refuses, run, succeeds
from forked_scripts import two_corruptions, with_corruptions

from safa.datasets.corruptions import QueryView

SAFA = {"network_type": "SAFA_2"}


def ranks(folder, name=""):
    result = json.loads((folder / f"Result/CVACT/SAFA_2_polar_1{name}.json").read_text())
    return result["ranks"], result["recall"]


def test_a_draw_is_the_same_in_every_test_whatever_its_batches_are(with_network):
    drawn = []
    for batch_size in (32, 3):
        flags = {"corruption": "c_all", "descriptors": "memory", "batch_size": batch_size}
        succeeds("test_cvact.py", **flags, **SAFA, cwd=with_network, before=with_corruptions)
        drawn.append(ranks(with_network, "_c_all"))
    assert drawn[0] == drawn[1]


def test_a_killed_grid_goes_on_ends_in_one_table_and_is_tested_again_with_another_radius(with_network):
    given, results = {**SAFA, "cwd": with_network, "before": two_corruptions}, with_network / "Result/CVACT"
    grid = given | {"corruption": "all"}
    killed = run("test_cvact.py", **grid | {"before": functools.partial(two_corruptions, batches=2)})
    assert killed.returncode == -9, killed.stderr
    kept = contents(results)
    finished = sorted(name for name in kept if name.endswith(".json") and "/" not in name)
    assert finished == ["SAFA_2_polar_1_contrast_1.json"]  # after the references' batch
    again = succeeds("test_cvact.py", **grid, report=True)
    assert again.count("fog ") >= 2 and "contrast 2:" in again and "contrast 1:" not in again and "mean" in again
    files = sorted(results.glob("*.json"))
    assert len(files) == 5 and results / "SAFA_2_polar_1_fog_2.json" in files  # 2 x 2 and the clean one
    assert "Corrupted queries" in (results / "SAFA_2_polar_1.html").read_text()
    assert all((results / name).read_bytes() == kept[name] for name in finished)
    # What changes nothing gives the clean ranks: the stand-in's contrast, with panoramas as published; and severity 0.
    clean = ranks(with_network)
    assert ranks(with_network, "_contrast_2") == clean and ranks(with_network, "_fog_2")[0] != clean[0]
    (results / "SAFA_2_polar_1.json").unlink()
    succeeds("test_cvact.py", **given, corruption="fog", severity=0)
    assert ranks(with_network) == clean
    succeeds("test_cvact.py", **grid, radius=30)
    assert all("recall_within_30m" in path.read_text() for path in files)
    assert "fog" in succeeds("recall_tables.py", cwd=with_network)


def test_a_grid_tests_again_what_images_were_replaced_of(with_network):
    folders = [f"{each}/{severity}" for each in ("contrast", "fog") for severity in "12"]
    for each in folders:
        shutil.copytree(with_network / "Data/ANU_data_small/streetview", with_network / "queries" / each)
    given = {**SAFA, "corruption": "all", "queries_dir": "queries", "cwd": with_network}
    for changed in folders, ["fog/2"]:
        output = succeeds("test_cvact.py", **given, before=two_corruptions)
        assert re.findall("files (.*) (.): R@1", output) == [tuple(each.split("/")) for each in changed]
        for path in (with_network / "queries/fog/2").iterdir():
            os.utime(path, (1, 1))
    next((with_network / "queries/fog/1").iterdir()).unlink()
    assert "use --skip_missing" in complains("test_cvact.py", **given, before=two_corruptions)
    assert "9 pairs remain" in succeeds("test_cvact.py", **given, skip_missing=True, before=two_corruptions)
    assert {json.loads(path.read_text())["queries"] for path in (with_network / "Result/CVACT").glob("*_[12].json")} == {9}


def test_mistakes_are_one_line(with_network, monkeypatch):
    monkeypatch.chdir(with_network)
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
    assert "--severity" in complains("test_cvact.py", **SAFA, severity=3, cwd=with_network)
    process = run("test_cvact.py", corruption="fog", severity=1, **SAFA, cwd=with_network)
    assert process.returncode in (0, 2) and "Traceback" not in process.stderr  # with the package, or one line how to install it
