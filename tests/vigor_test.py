"""VIGOR: a small town of its form goes through every script, and the hit rate is that of VIGOR's formula."""

import json
import os
import shutil

import numpy as np
import pytest
from conftest import TINY, complains, rows_of, run, succeeds, tensors_of

from safa.datasets.file_checks import check_files
from safa.datasets.vigor import CITIES, VIGOR, VIGORCross
from safa.retrieval.evaluation import evaluate
from safa.retrieval.search import search
from safa.retrieval.task import AERIAL_TO_GROUND, task_of
from safa.runtime.errors import UserError
from safa.training.step import negatives_of

NETWORK = {"network_type": "SAFA_1"}
RADIANS = np.pi / 180


@pytest.fixture(scope="module")
def vigor(tmp_path_factory):
    """A folder with `Data`: a toy town in VIGOR's form, prepared, and a network trained for an epoch. Not to be changed."""
    folder = tmp_path_factory.mktemp("vigor")
    sizes = {"tile_size": 128, "panorama_size": "112x224"}
    succeeds("toy_town", dataset="vigor", train=32, test=12, **sizes, workers=1, cwd=folder)
    succeeds("data_preparation.py", dataset="all", workers=1, cwd=folder)
    succeeds("train_vigor.py", **NETWORK, **TINY, epochs=1, cwd=folder)
    return folder


@pytest.fixture
def own(vigor, tmp_path):
    """A copy of its data to break."""
    shutil.copytree(vigor / "Data", tmp_path / "Data")
    return tmp_path


def labels_of(data, city, name):
    """Panoramas, and for each its four (tile, dx, dy), by splitting at blanks as VIGOR's code does."""
    rows = [line.split(" ") for line in (data / "VIGOR/splits" / city / name).read_text().splitlines()]
    return [(row[0], [(row[i], float(row[i + 1]), float(row[i + 2])) for i in (1, 4, 7, 10)]) for row in rows]


@pytest.mark.parametrize(
    "kind, split, cities, name",
    [
        (VIGOR, "train", CITIES, "same_area_balanced_train.txt"),
        (VIGOR, "val", CITIES, "same_area_balanced_test.txt"),
        (VIGORCross, "train", ("NewYork", "Seattle"), "pano_label_balanced.txt"),
        (VIGORCross, "val", ("SanFrancisco", "Chicago"), "pano_label_balanced.txt"),
    ],
)
def test_pairs_are_the_lines_of_the_lists_and_lie_where_names_and_offsets_say(vigor, kind, split, cities, name):
    pairs, row, tiles = kind(vigor / "Data").pairs(split, "aerial"), 0, []
    for city in cities:
        folder = vigor / "Data/VIGOR" / city
        tiles += [str(folder / "satellite" / each) for each in sorted(os.listdir(folder / "satellite"))]
        for panorama, label in labels_of(vigor / "Data", city, name):
            assert pairs.grd_paths[row] == str(folder / "panorama" / panorama) and panorama.startswith(pairs.ids[row] + ",")
            listed = [os.path.basename(pairs.sat_paths[each]) for each in (pairs.truth[row], *pairs.acceptable[row])]
            assert listed[0] == label[0][0] and sorted(listed) == sorted(tile for tile, *_ in label)
            _, south, west = label[0]  # pixels of tiles of 640, which show 80 m in the toy town
            east, north = pairs.query_utm[row] - pairs.utm[pairs.truth[row]]
            assert max(abs(south), abs(west)) <= 160
            assert [-north, -east] == pytest.approx([0.125 * south, 0.125 * west], abs=0.1)
            row += 1
    assert row == len(pairs) and sorted(pairs.sat_paths) == sorted(tiles) and len(np.unique(pairs.truth)) < len(tiles)


def test_positives_and_semi_positives_are_no_negatives(vigor):
    pairs = VIGORCross(vigor / "Data").pairs("train")
    everyone = np.arange(len(pairs))
    negatives = negatives_of(pairs, everyone[3:9], everyone)
    for i, of in enumerate(everyone[3:9]):
        for j in everyone:
            near = {pairs.truth[j], *pairs.acceptable[j]}
            assert negatives[i, j] == (pairs.truth[of] not in near)
    assert (pairs.truth[:, None] != pairs.truth).sum() > negatives_of(pairs, everyone, everyone).sum() > 0


def by_vigors_formula(sat, grd, pairs):
    """Shares of the queries without a closer reference, of all, and of all but its semi-positives."""
    distances = 2 - 2 * grd.astype(np.float64) @ sat.T.astype(np.float64)
    hits = np.zeros((len(grd), 2))
    for row, (of_query, true, semi) in enumerate(zip(distances, pairs.truth, pairs.acceptable, strict=True)):
        counted = np.ones(len(sat))
        counted[semi] = 0
        closer = of_query < of_query[true] - 1e-12
        hits[row] = closer.sum() < 1, (closer * counted).sum() < 1
    return hits.mean(axis=0).tolist()


def test_the_hit_rate_is_vigors_and_not_the_recall_of_acceptable_tiles(vigor):
    pairs, random = VIGOR(vigor / "Data").pairs("train"), np.random.default_rng(0)
    sat = random.standard_normal((len(pairs.sat_paths), 16)).astype(np.float32)
    grd = sat[pairs.truth] + np.stack([sat[rows[:2]].sum(axis=0) for rows in pairs.acceptable])
    grd[::2] += 2 * random.standard_normal((len(grd[::2]), 16)).astype(np.float32)
    sat, grd = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (sat, grd))
    task = task_of(pairs)
    result = evaluate(task, search(sat, grd, task.truth, task.near, 1))
    found = [result[name]["1"] for name in ("recall", "recall_hit_rate", "recall_acceptable")]
    assert found[:2] == by_vigors_formula(sat, grd, pairs) and found[0] < found[1] < found[2]
    best = (grd @ sat.T).argmax(axis=1)
    metres = np.hypot(*(pairs.query_utm - pairs.utm[best]).T)  # from panoramas, not from their tiles
    assert result["metres"]["median"] == pytest.approx(np.median(metres)) and "hit_rate" in result["ranks"]
    assert not task_of(pairs, AERIAL_TO_GROUND).has_hit_rate
    near = task_of(pairs, radius=1.0)  # holds the truth, which is further away
    assert all(true in rows for true, rows in zip(near.truth, near.near, strict=True)) and near.counted == "within_1m"


def test_a_town_goes_through_every_script(vigor, tmp_path):
    shutil.copytree(vigor, tmp_path, dirs_exist_ok=True)
    assert "no problems found" in succeeds("check_data.py", dataset="vigor", workers=1, cwd=tmp_path)
    output = succeeds("train_vigor.py", **NETWORK, **TINY, epochs=2, cwd=tmp_path)
    assert "going on after epoch 1 of 2" in output and "32 pairs for training, 12 for validation" in output
    succeeds("train_vigor.py", **NETWORK, **TINY, epochs=2, model_dir=tmp_path / "at_once", cwd=tmp_path)
    expected, found = (tensors_of(tmp_path / folder / "VIGOR/SAFA_1/polar_1") for folder in ("at_once", "Model"))
    assert all(np.array_equal(expected[key], found[key]) for key in expected)
    output = succeeds("test_vigor.py", **NETWORK, checkpoint="last", report=True, save_descriptors="d.npz", cwd=tmp_path)
    pairs, saved = VIGOR(tmp_path / "Data").pairs("val"), np.load(tmp_path / "d.npz")
    assert f"12 panoramas among {len(pairs.sat_paths)} aerial images" in output and "hit rate" in output
    result = json.loads((tmp_path / "Result/VIGOR/SAFA_1_polar_1.json").read_text())
    shares = by_vigors_formula(saved["sat_descriptors"], saved["grd_descriptors"], pairs)
    assert [result["recall"]["1"], result["recall_hit_rate"]["1"]] == shares
    assert result["recall"]["1"] == float(rows_of(tmp_path / "Result/VIGOR/SAFA_1_polar_1.csv")[-1]["recall@1"])
    assert "hit rate" in (tmp_path / "Result/VIGOR/SAFA_1_polar_1.html").read_text()
    assert "hit rate" in succeeds("recall_tables.py", output="tables", cwd=tmp_path)
    flags = {"dataset": "vigor_cross", "labels": "splits", "polar": 0, "rows": "SAFA_8"}
    commands = succeeds("reproduce.py", **flags, dry_run=True, cwd=tmp_path)
    assert "check_data.py --dataset vigor_cross --labels splits" in commands and "train_vigor_cross.py" in commands
    os.rename(tmp_path / "Data/VIGOR/splits", tmp_path / "Data/VIGOR/splits__corrected")
    aerial = TINY | {"polar": 0, "epochs": 1, "labels": "splits__corrected"}
    assert "22 pairs for training, 22 for validation" in succeeds("train_vigor_cross.py", **NETWORK, **aerial, cwd=tmp_path)
    assert "--labels: CVUSA has none" in complains("check_data.py", dataset="cvusa", labels="splits", cwd=tmp_path)


GOOD = "a,b,1.5,2.5,.jpg"
TILES = "s_1_2.png 0 0 s_1_3.png 0 0 s_1_4.png 0 0 s_1_5.png 0 0"


@pytest.mark.parametrize(
    "line",
    [
        GOOD,
        f"{GOOD} {TILES} 7",
        f"{GOOD} {TILES.replace('s_1_5', 's_1_6')}",
        f"{GOOD} {TILES.replace('0', 'nan', 1)}",
        f"{GOOD} {TILES.replace('0', 'x', 1)}",
        f"../{GOOD} {TILES}",
        f"a,95,2.5,.jpg {TILES}",
        f"a,1.5,181,.jpg {TILES}",
        f"a,1.5,.jpg {TILES}",
        f"a,{'1' * 200_000},2.5,.jpg {TILES}",
        f"a\0b,1.5,2.5,.jpg {TILES}",
    ],
)
def test_a_line_of_a_list_that_is_wrong_is_named_in_one_line(tmp_path, line):
    for city in CITIES:
        folder = tmp_path / "VIGOR/splits" / city
        folder.mkdir(parents=True)
        (folder / "satellite_list.txt").write_text("\n".join(TILES.split()[::3]) + "\n\n")
        (folder / "same_area_balanced_val.txt").write_text("")
        (folder / "same_area_balanced_test.txt").write_text(f"\ufeff{GOOD} {TILES}\r\n")
    assert VIGOR(tmp_path).pairs("val").ids == ["a,b"] * 4  # names may hold commas
    with open(tmp_path / "VIGOR/splits/Seattle/same_area_balanced_test.txt", "a") as file:
        file.write(line)
    wrong = "Seattle/same_area_balanced_test.txt: 1 of 2 lines are not .*line 2.*dataset again$"
    with pytest.raises(UserError, match=wrong) as error:
        VIGOR(tmp_path).pairs("val")
    assert len(str(error.value)) < 600


def test_lists_that_are_missing_empty_binary_or_doubled_are_one_line(own):
    path = own / "Data/VIGOR/splits/Chicago/satellite_list.txt"
    content = path.read_text()
    for spoilt, text in (
        (None, "not found; put the dataset into"),
        (b"", "0 of 0 lines are not"),
        (b"\xff\xfe\0", "not a text file"),
        (f"{content}{content}".encode(), "tiles stand there twice"),
        (b"satellite.png\n", "1 of 1 lines are not tiles' names"),
    ):
        path.unlink(missing_ok=True)
        if spoilt is not None:
            path.write_bytes(spoilt)
        assert text in complains("check_data.py", dataset="vigor", cwd=own)


def test_a_tile_that_is_missing_takes_its_panoramas_along_and_no_other(own):
    pairs = VIGOR(own / "Data").pairs("train")
    gone = np.bincount(pairs.truth).argmax()
    os.unlink(pairs.sat_paths[gone])
    kept, note = check_files(pairs, ((32, 128), (32, 128)), skip_missing=True)
    count = np.count_nonzero(pairs.truth == gone)
    assert count == 2 and "which 2 of 32 pairs need" in note and len(kept) == 30
    rows = [row for row in range(32) if pairs.truth[row] != gone]
    for row, before in enumerate(rows):
        paths = [[each.sat_paths[tile] for tile in each.acceptable[at]] for each, at in ((kept, row), (pairs, before))]
        assert paths[0] == [path for path in paths[1] if path != pairs.sat_paths[gone]]
        assert kept.sat_paths[kept.truth[row]] == pairs.sat_paths[pairs.truth[before]]
    np.testing.assert_array_equal(kept.query_utm, pairs.query_utm[rows])


def test_mixed_up_lists_and_missing_tiles_without_panoramas_are_found(own):
    pairs = VIGOR(own / "Data").pairs("val", "aerial")
    alone = next(path for row, path in enumerate(pairs.sat_paths) if row not in pairs.truth)
    os.unlink(alone)
    path = own / "Data/VIGOR/splits/Seattle/same_area_balanced_train.txt"
    rows = [line.partition(" ") for line in path.read_text().splitlines()]
    path.write_text("".join(f"{rows[-1 - row][0]} {label}\n" for row, (_, _, label) in enumerate(rows)))
    process = run("check_data.py", dataset="vigor", workers=1, cwd=own)
    output = process.stdout
    assert process.returncode == 1 and "panoramas lie outside their tiles" in output and os.path.basename(alone) in output


def test_a_town_without_a_place_for_each_city_and_offsets_on_a_grid_are_refused(tmp_path):
    assert "four cities" in complains("toy_town", dataset="vigor", train=3, cwd=tmp_path)
    assert "lie on a grid" in complains("toy_town", dataset="vigor", offset=4, cwd=tmp_path)
    assert "twice as wide" in complains("toy_town", dataset="vigor", panorama_size="112x616", cwd=tmp_path)
