"""check_data.py finds what was done to a dataset, and nothing in one that is whole."""

import dataclasses
import datetime
import json
import os
import shutil

import cv2
import numpy as np
import pytest
from conftest import refuses, run

import check_data
import data_preparation
from safa.datasets import checks, orientation
from safa.datasets.cvact import CVACT
from safa.datasets.cvusa import CVUSA
from safa.datasets.registry import DATASETS
from safa.launch.given_data import Folders, checked_pairs, findings_of
from safa.runtime import progress
from safa.settings import NetworkConfig


@pytest.fixture(autouse=True)
def enough_pairs(monkeypatch):
    """The toy towns' 24 pairs are enough to judge a split by."""
    monkeypatch.setattr(orientation, "LEAST_PAIRS", 20)


def by_check(report):
    return {(each["check"], each["split"]): each for each in report["findings"]}


@pytest.fixture
def check(capsys, tmp_path):
    """Check the dataset below `folder`: exit code, and {(check, split): finding}. What is found is printed too."""

    def check(folder, dataset="cvusa", *arguments):
        path = tmp_path / "report.json"
        words = ["--dataset", dataset, "--data_dir", str(folder / "Data"), "--workers", "1", "--json", str(path)]
        code = check_data.main([*words, *arguments])
        report, printed = json.loads(path.read_text()), capsys.readouterr().out
        assert all(finding["text"] in printed for finding in report["findings"])
        assert code == (report["problems"] > 0)
        return code, by_check(report)

    return check


def test_a_whole_dataset_has_nothing_but_notes(towns, tmp_path):
    os.symlink(towns / "Data", tmp_path / "Data")
    outcome = run("check_data.py", dataset="cvusa", workers=1, json="report.json", figures="look", cwd=tmp_path)
    assert all(cv2.imread(str(tmp_path / f"look/pairs_{split}.png")) is not None for split in ("train", "val"))
    assert outcome.returncode == 0 and "no problems found" in outcome.stdout.splitlines()
    found = by_check(json.loads((tmp_path / "report.json").read_text()))
    assert set(found) == {(check, split) for check in ("count", "orientation") for split in ("train", "val")}
    assert found["count", "train"]["count"] == 24 and "35,532" in found["count", "train"]["text"]


def test_long_work_prints_lines_where_there_is_no_terminal_and_short_work_none(towns, monkeypatch, capsys):
    words = ["--dataset", "cvusa", "--data_dir", str(towns / "Data"), "--workers", "1"]
    check_data.main(words)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    check_data.main(words)
    assert "checking CVUSA: 68 of 68 images, " in capsys.readouterr().err
    with progress.ProgressBar(None, "epoch 2", 2_000, "pairs", initial=1_000) as bar:
        bar.start_t -= 1_800  # half an hour ago
        bar.set_postfix(loss="0.5", refresh=False)
        before = datetime.datetime.now()
        bar.update(500)
    ends = [f"{each + datetime.timedelta(minutes=30):%a %H:%M}" for each in (before, datetime.datetime.now())]
    line = "epoch 2: 1,500 of 2,000 pairs, 0.28 pairs/s, ends about {}, loss=0.5\n"
    assert capsys.readouterr().err in map(line.format, ends)


def test_files_that_are_missing_broken_or_odd_are_named(own_towns, check):
    pairs = CVUSA(str(own_towns / "Data")).pairs("train")
    panoramas, polar = pairs.grd_paths, pairs.sat_paths
    os.unlink(panoramas[0])
    cut = open(panoramas[1], "rb").read()
    with open(panoramas[1], "wb") as file:
        file.write(cut[: len(cut) // 2] + cut[-2:])
    cv2.imwrite(panoramas[3], np.zeros((50, 60, 3), np.uint8))
    cv2.imwrite(polar[7], 255 - cv2.imread(polar[7]))
    for number in (6, 7):  # that are older than their tiles; number 6 still is what its tile gives
        os.utime(polar[number], (1, 1))
    _, found = check(own_towns, "cvusa", "--quick")
    assert found["outdated", "train"]["count"] == 2 and found["missing", "train"]["examples"] == [panoramas[0]]
    code, found = check(own_towns)
    assert code == 1
    for name, text, path in (
        ("missing", "panoramas", panoramas[0]),
        ("unreadable", "panoramas", panoramas[1]),
        ("size", "panoramas", panoramas[3]),
        ("ratio", "panoramas", panoramas[3]),
        ("content", "polar maps", polar[7]),
    ):
        finding = found[name, "train"]
        assert finding["count"] == 1 and text in finding["text"], name
        assert os.path.basename(path) in finding["examples"][0], name
    words = ["--dataset", "cvusa", "--data_dir", str(own_towns / "Data"), "--workers", "1"]
    assert data_preparation.main([*words, "--no_stretch", "--overwrite"]) == 0
    code, found = check(own_towns)
    assert code == 1 and found["stretch", "train"]["count"] > 20


def test_rows_and_images_that_serve_two_pairs_are_problems(own_towns, check):
    """By their names, without decoding and before training, and by their content under other names."""
    dataset = CVUSA(str(own_towns / "Data"))
    train, test = dataset.pairs("train"), dataset.pairs("val")
    lists = {name: own_towns / f"Data/CVUSA/splits/{name}-19zl.csv" for name in ("train", "val")}
    rows = {name: path.read_text().splitlines() for name, path in lists.items()}
    lists["train"].write_text("\n".join([*rows["train"], *rows["train"][:2], rows["val"][0]]))
    code, found = check(own_towns, "cvusa", "--quick")
    assert code == 1 and found["duplicate ids", "train"]["count"] == 2 and found["leakage by id", "val"]["count"] == 1
    panorama = rows["train"][0].split(",")[1]
    for name, number in (("train", 1), ("val", 2)):
        aerial, _, unused = rows[name][number].split(",")
        rows[name][number] = f"{aerial},{panorama},{unused}"
        lists[name].write_text("\n".join(rows[name]))
    code, found = check(own_towns, "cvusa", "--quick")
    assert code == 1
    for name, split in (("duplicate files", "train"), ("leakage by file", "val")):
        assert found[name, split]["problem"] and found[name, split]["examples"] == [train.grd_paths[0]]
    said = "\n".join(findings_of({split: dataset.pairs(split) for split in dataset.splits}))
    assert "stand in more than one row" in said and "under other ids" in said

    shutil.copy(train.grd_paths[5], train.grd_paths[6])
    shutil.copy(train.tile_paths[7], test.tile_paths[3])
    code, found = check(own_towns)
    assert found["copies", "train"]["examples"] == [f"{train.grd_paths[5]} = {train.grd_paths[6]}"]
    (example,) = found["leakage by content", "val"]["examples"]
    assert set(example.split(" = ")) == {train.tile_paths[7], test.tile_paths[3]}


def test_what_is_older_than_its_source_is_said_before_training_and_where_it_is_prepared(own_towns, capsys):
    pairs = CVACT(str(own_towns / "Data")).pairs("train", "aerial")
    os.utime(pairs.panorama_paths[3])
    old = "prepared files are older than what they are made from"
    assert f"CVACT train: 1 {old}" in "\n".join(findings_of({"train": pairs}))
    of_two_queries = dataclasses.replace(pairs, grd_paths=2 * pairs.grd_paths, panorama_paths=2 * pairs.panorama_paths)
    assert [finding.count for finding in checks.outdated(of_two_queries)] == [1]
    assert data_preparation.main(["--dataset", "cvact", "--data_dir", str(own_towns / "Data"), "--workers", "1"]) == 0
    assert f"34 were there already, 0 failed; 1 {old}: run data_preparation.py --overwrite" in capsys.readouterr().out


def test_a_split_whose_panoramas_are_changed_alike_is_recognised(own_towns, check):
    paths = CVUSA(str(own_towns / "Data")).pairs("train").grd_paths
    images = [cv2.imread(path) for path in paths]
    for expected, changed in (
        ("mirrored", [image[:, ::-1] for image in images]),
        ("turned by 180 degrees", [np.roll(image, image.shape[1] // 2, 1) for image in images]),
        ("unlike", images[7:] + images[:7]),
    ):
        for path, image in zip(paths, changed, strict=True):
            cv2.imwrite(path, image)
        code, found = check(own_towns)
        assert code == 1 and (expected, "train") in found and (expected, "val") not in found


def street_colours(count, turn=0, likeness=1.0, seed=0):
    """Colours of pairs on streets: alike ahead and behind but for a share of the places' own."""
    random = np.random.default_rng(seed)
    half = random.standard_normal((count, 4, 32, 3))
    place = np.concatenate([half, half], axis=2) + (1 - likeness) * random.standard_normal((count, 4, 64, 3))
    sat, grd = (place + 1.5 * random.standard_normal(place.shape) for _ in range(2))
    return list(np.stack([sat, np.roll(grd, turn, axis=2)], axis=1).astype(np.float32))


def test_turns_are_recognised_unless_streets_look_alike_ahead_and_behind():
    for street, expected in (
        ((40, 0, 1.0), "ahead and behind"),
        ((100, 16, 1.0), "turned by 90 degrees or 270 degrees"),
        ((100, 32, -0.5), "turned by 180 degrees"),
    ):
        for seed in range(3):
            (found,) = orientation.orientation("train", street_colours(*street, seed))
            assert set(found.check.split()) <= set(expected.split()) and found.problem == (expected != "ahead and behind")


def test_tiles_that_splits_share_by_design_are_no_leaks_and_nearness_is_to_places_with_a_panorama(towns):
    """Both splits list the same tiles, 100 m apart; each tile has the panorama of one split."""
    train, val = (CVUSA(str(towns / "Data")).pairs(name) for name in ("train", "val"))
    tiles, utm = train.tile_paths[:20], np.stack([100.0 * np.arange(20), np.zeros(20)], axis=1)
    shared, rows = {"sat_paths": tiles, "tile_paths": tiles, "utm": utm}, 2 * np.arange(10)
    train, val = (dataclasses.replace(pairs.take(np.arange(10)), **shared, truth=rows) for pairs in (train, val))
    val = dataclasses.replace(val, truth=rows + 1, query_utm=None)
    assert checks.leakage({"train": train, "val": val}) == []
    moved = dataclasses.replace(val, truth=np.append(val.truth[:9], 18), query_utm=None)
    (near,) = checks.leakage({"train": train, "val": moved})
    assert near.check == "leakage by distance" and near.examples == (val.ids[9],)


class WithoutPolarMaps(CVUSA):
    """A dataset that is registered and nothing more."""

    name, polar_dir = "Without", property(lambda self: None, lambda self, folder: None)


def test_a_registered_dataset_without_polar_maps_is_checked_and_prepared(own_towns, check, monkeypatch):
    monkeypatch.setitem(DATASETS, "without", WithoutPolarMaps)
    code, found = check(own_towns, "without")
    assert code == 0 and ("missing", "train") not in found
    assert data_preparation.main(["--dataset", "without", "--data_dir", str(own_towns / "Data")]) == 0
    dataset = WithoutPolarMaps(str(own_towns / "Data"))
    line = "--polar 1: Without has no polar maps; use --polar 0"
    refuses(line, checked_pairs, dataset, "train", NetworkConfig(), Folders())
    shutil.rmtree(own_towns / "Data/CVUSA/polarmap")
    code, found = check(own_towns, "cvusa", "--quick")
    assert code == 0 and found["missing", "train"]["count"] == 24 and "--polar 0" in found["missing", "train"]["text"]
