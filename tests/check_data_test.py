"""check_data.py finds what was done to a dataset, and nothing in one that is whole."""

import json
import os
import shutil

import cv2
import numpy as np
import pytest
import scipy.io
from conftest import run, succeeds

from safa.datasets.cvact import CVACT
from safa.datasets.cvusa import CVUSA
from safa.datasets.dataset import Pairs
from safa.datasets.orientation import HALF_TURN, orientation


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    """A folder with a toy town of 80 and 30 places in CVUSA's format. Not to be changed."""
    folder = tmp_path_factory.mktemp("town")
    succeeds("toy_town", dataset="cvusa", train=80, test=30, aerial_size=128, panorama_size="112x616", cwd=folder)
    succeeds("data_preparation.py", dataset="cvusa", cwd=folder)
    return folder


@pytest.fixture
def own_town(town, tmp_path):
    shutil.copytree(town / "Data", tmp_path / "Data")
    return tmp_path


def findings(folder, dataset="cvusa", *arguments):
    """Exit code, and {(check, split): finding} of a check."""
    outcome = run("check_data.py", *arguments, dataset=dataset, json=folder / "report.json", cwd=folder)
    assert outcome.returncode in (0, 1), outcome.stderr
    report = json.loads((folder / "report.json").read_text())
    for finding in report["findings"]:
        assert finding["text"] in outcome.stdout
    assert (outcome.returncode == 1) == (report["problems"] > 0)
    return outcome.returncode, {(each["check"], each["split"]): each for each in report["findings"]}


def test_a_whole_dataset_has_nothing_but_notes(town, tmp_path):
    os.symlink(town / "Data", tmp_path / "Data")
    code, found = findings(tmp_path)
    assert code == 0 and set(found) == {("count", "train"), ("count", "val")}
    assert found["count", "train"]["count"] == 80 and "35,532" in found["count", "train"]["text"]


def test_files_that_are_missing_broken_or_odd_are_named(own_town):
    pairs = CVUSA(str(own_town / "Data")).pairs("train", "aerial")
    polar = CVUSA(str(own_town / "Data")).pairs("train").sat_paths
    os.unlink(pairs.grd_paths[0])
    cut = open(pairs.grd_paths[1], "rb").read()
    with open(pairs.grd_paths[1], "wb") as file:
        file.write(cut[: len(cut) // 2] + cut[-2:])
    cv2.imwrite(pairs.grd_paths[2], cv2.imread(pairs.grd_paths[2], cv2.IMREAD_GRAYSCALE))
    cv2.imwrite(pairs.grd_paths[3], np.zeros((50, 60, 3), np.uint8))
    cv2.imwrite(polar[4], cv2.imread(polar[4]).astype(np.uint16) * 257)
    cv2.imwrite(polar[5], cv2.cvtColor(cv2.imread(polar[5]), cv2.COLOR_BGR2BGRA))
    cv2.imwrite(polar[7], 255 - cv2.imread(polar[7]))
    for number in (6, 7):  # that are older than their tiles; number 6 still is what its tile gives
        os.utime(polar[number], (1, 1))
    _, found = findings(own_town, "cvusa", "--quick")
    assert found["outdated", "train"]["count"] == 2
    code, found = findings(own_town)
    assert code == 1
    for check, text, path in (
        ("missing", "panoramas", pairs.grd_paths[0]),
        ("unreadable", "panoramas", pairs.grd_paths[1]),
        ("size", "panoramas", pairs.grd_paths[3]),
        ("ratio", "panoramas", pairs.grd_paths[3]),
        ("outdated", "prepared files", polar[7]),
        ("content", "polar maps", polar[7]),
    ):
        finding = found[check, "train"]
        assert finding["count"] == 1 and text in finding["text"], check
        assert os.path.basename(path) in finding["examples"][0], check
    kinds = {line for line in run("check_data.py", dataset="cvusa", cwd=own_town).stdout.splitlines() if "converted" in line}
    assert {kind for kind in ("grey-scale", "16-bit", "alpha") if any(kind in line for line in kinds)} == {
        "grey-scale",
        "16-bit",
        "alpha",
    }


def test_another_stretch_is_noticed(own_town):
    succeeds("data_preparation.py", dataset="cvusa", no_stretch=True, overwrite=True, cwd=own_town)
    code, found = findings(own_town)
    assert code == 1 and found["stretch", "train"]["count"] > 70


def test_duplicates_and_leaks_are_counted(own_town):
    splits = own_town / "Data/CVUSA/splits"
    train, val = ((splits / f"{name}-19zl.csv").read_text().splitlines() for name in ("train", "val"))
    (splits / "train-19zl.csv").write_text("\n".join([*train, train[0], train[1], val[0]]))
    code, found = findings(own_town, "cvusa", "--quick")
    assert code == 1 and found["duplicate ids", "train"]["count"] == 2 and found["leakage by id", "val"]["count"] == 1
    training = run("train_cvusa.py", init="random", batch_size=8, micro_batch=3, cwd=own_town)
    assert training.returncode == 2  # before its first step, but after what every training says of its data
    assert "ids are in the training split too" in training.stdout and "listed more than once" in training.stdout


def test_places_of_both_splits_that_are_less_than_5_metres_apart_are_counted(own_towns):
    path = own_towns / "Data/ANU_data_small/ACT_data.mat"
    content = scipy.io.loadmat(path)
    train, val = (
        content[struct][field][0, 0].ravel() - 1 for struct, field in (("trainSet", "trainInd"), ("valSet", "valInd"))
    )
    content["utm"][val[:3]] = content["utm"][train[:3]] + [3, 3]
    scipy.io.savemat(
        path,
        {name: content[name] for name in ("panoIds", "utm")}
        | {struct: {field: content[struct][field][0, 0]} for struct, field in (("trainSet", "trainInd"), ("valSet", "valInd"))},
    )
    code, found = findings(own_towns, "cvact", "--quick")
    near = found["leakage by distance", "val"]
    assert code == 0 and near["count"] >= 3
    assert set(CVACT(str(own_towns / "Data")).pairs("val").ids[:3]) <= set(near["examples"])


@pytest.mark.parametrize("change, expected", [("mirror", "mirrored"), ("turn", "turned by 180 degrees"), ("shuffle", "unlike")])
def test_a_split_whose_panoramas_are_changed_alike_is_recognised(own_town, change, expected):
    paths = CVUSA(str(own_town / "Data")).pairs("train").grd_paths
    images = [cv2.imread(path) for path in paths]
    for number, path in enumerate(paths):
        image = {
            "mirror": images[number][:, ::-1],
            "turn": np.roll(images[number], images[number].shape[1] // 2, 1),
            "shuffle": images[(number + 7) % len(images)],
        }[change]
        cv2.imwrite(path, image)
    code, found = findings(own_town)
    assert code == 1 and (expected, "train") in found and (expected, "val") not in found


def test_single_pairs_that_are_swapped_or_mirrored_are_pointed_out(own_town):
    pairs = CVUSA(str(own_town / "Data")).pairs("train")
    swapped = [0, 1, 10, 11, 20, 21, 30, 31]
    for number in swapped[::2]:
        one, other = pairs.grd_paths[number], pairs.grd_paths[number + 1]
        os.rename(one, one + ".x")
        os.rename(other, one)
        os.rename(one + ".x", other)
    mirrored = [40, 45, 50, 55]
    for number in mirrored:
        cv2.imwrite(pairs.grd_paths[number], cv2.imread(pairs.grd_paths[number])[:, ::-1])
    _, found = findings(own_town)
    for name, rows in (("swapped pairs", swapped), ("mirrored pairs", mirrored)):
        truth, named = {pairs.ids[row] for row in rows}, set(found[name, "train"]["examples"])
        assert len(truth & named) >= len(truth) / 2, (truth, named)
        assert len(named - truth) <= 2, (truth, named)


@pytest.mark.parametrize(
    "name, change", [("swapped pairs", "swap"), (f"{HALF_TURN} pairs", "turn"), ("mirrored pairs", "mirror")]
)
def test_one_wrong_pair_of_eighty_is_a_problem(own_town, name, change):
    pairs = CVUSA(str(own_town / "Data")).pairs("train")
    images = {number: cv2.imread(pairs.grd_paths[number]) for number in (0, 1)}
    changed = {
        "swap": {0: images[1], 1: images[0]},
        "turn": {0: np.roll(images[0], images[0].shape[1] // 2, 1)},
        "mirror": {1: images[1][:, ::-1]},
    }[change]
    for number, image in changed.items():
        cv2.imwrite(pairs.grd_paths[number], image)
    code, found = findings(own_town)
    assert code == 1 and found[name, "train"]["problem"]
    assert set(found[name, "train"]["examples"]) == {pairs.ids[number] for number in changed}


def test_images_that_serve_two_pairs_are_problems(own_town):
    """By their names, without decoding, and by their content under other names."""
    dataset = CVUSA(str(own_town / "Data"))
    tiles, panoramas, test_tiles = (
        [os.path.relpath(path, own_town) for path in paths]
        for paths in (
            dataset.pairs("train", "aerial").sat_paths,
            dataset.pairs("train").grd_paths,
            dataset.pairs("val", "aerial").sat_paths,
        )
    )
    lists = {name: own_town / f"Data/CVUSA/splits/{name}-19zl.csv" for name in ("train", "val")}
    rows = {name: path.read_text().splitlines() for name, path in lists.items()}
    panorama = rows["train"][0].split(",")[1]
    for name, number in (("train", 1), ("val", 2)):
        aerial, _, unused = rows[name][number].split(",")
        rows[name][number] = f"{aerial},{panorama},{unused}"
        lists[name].write_text("\n".join(rows[name]))
    code, found = findings(own_town, "cvusa", "--quick")
    assert code == 1
    for check, split in (("duplicate files", "train"), ("leakage by file", "val")):
        assert found[check, split]["problem"] and found[check, split]["examples"] == [panoramas[0]]
    training = run("train_cvusa.py", init="random", batch_size=8, micro_batch=3, cwd=own_town)
    assert "stand in more than one row" in training.stdout and "under other ids" in training.stdout

    shutil.copy(own_town / panoramas[5], own_town / panoramas[6])
    shutil.copy(own_town / tiles[7], own_town / test_tiles[3])
    code, found = findings(own_town)
    assert found["copies", "train"]["examples"] == [f"{panoramas[5]} = {panoramas[6]}"]
    (example,) = found["leakage by content", "val"]["examples"]
    assert set(example.split(" = ")) == {tiles[7], test_tiles[3]}


def test_one_panorama_for_all_rows_is_found_without_decoding(own_town):
    path = own_town / "Data/CVUSA/splits/train-19zl.csv"
    rows = [row.split(",") for row in path.read_text().splitlines()]
    path.write_text("\n".join(f"{aerial},{rows[0][1]},{unused}" for aerial, _, unused in rows))
    code, found = findings(own_town, "cvusa", "--quick")
    assert code == 1 and found["duplicate files", "train"]["problem"]


def street_colours(count, turn=0, likeness=1.0, seed=0):
    """Colours of pairs on streets: alike ahead and behind but for a share of the places' own."""
    random = np.random.default_rng(seed)
    half = random.standard_normal((count, 4, 32, 3))
    views = [
        np.concatenate([half, half], axis=2) + (1 - likeness) * random.standard_normal((count, 4, 64, 3)) for _ in range(1)
    ] * 2
    views = [view + 1.5 * random.standard_normal(view.shape) for view in views]
    return list(np.stack([views[0], np.roll(views[1], turn, axis=2)], axis=1).astype(np.float32))


@pytest.mark.parametrize("count", [40, 2000])
@pytest.mark.parametrize("turn", [0, 32])
def test_streets_that_look_alike_ahead_and_behind_are_not_reported_as_turned(count, turn):
    pairs = Pairs(CVUSA(), "train", "polar", [str(number) for number in range(count)], [], [], [])
    for seed in range(5):
        found = orientation(pairs, street_colours(count, turn, seed=seed))
        assert "ahead and behind" in [each.check for each in found] and not any(each.problem for each in found)


@pytest.mark.parametrize("turn", [16, 48])
def test_streets_turned_by_a_quarter_are_recognised(turn):
    pairs = Pairs(CVUSA(), "train", "polar", [str(number) for number in range(100)], [], [], [])
    (found,) = orientation(pairs, street_colours(100, turn))
    assert found.problem and found.check in ("turned by 90 degrees", "turned by 270 degrees")


def test_turns_by_half_are_recognised_where_ahead_and_behind_differ():
    pairs = Pairs(CVUSA(), "train", "polar", [str(number) for number in range(100)], [], [], [])
    (found,) = orientation(pairs, street_colours(100, 32, likeness=-0.5))
    assert found.problem and found.check == HALF_TURN


def test_a_dataset_that_is_not_there_is_one_line(tmp_path):
    outcome = run("check_data.py", dataset="cvact", cwd=tmp_path)
    assert outcome.returncode == 2 and outcome.stderr.count("\n") == 1 and "ACT_data.mat: not found" in outcome.stderr
