"""VIGOR: a small town of its form goes through every script, and the hit rate is that of VIGOR's formula."""

import dataclasses
import json
import os
import shutil
from unittest import mock

import numpy as np
import pytest
from conftest import TINY, complains, refuses, rows_of, run, succeeds, unit

import check_data
from safa.datasets import checked_files
from safa.datasets.file_checks import check_files
from safa.datasets.vigor import CITIES, VIGOR, VIGORCross
from safa.retrieval.evaluation import evaluate
from safa.retrieval.search import search
from safa.retrieval.task import AERIAL_TO_GROUND, task_of
from safa.training.step import negatives_of

TRAINING = TINY | {"network_type": "VGG_gp", "epochs": 2}


@pytest.fixture(scope="module")
def vigor(tmp_path_factory):
    """A folder with `Data`: a toy town in VIGOR's form, prepared, and a network trained for an epoch. Not to be changed."""
    folder = tmp_path_factory.mktemp("vigor")
    sizes = {"tile_size": 128, "panorama_size": "112x224"}
    succeeds("toy_town", dataset="vigor", train=32, test=12, **sizes, workers=1, cwd=folder)
    succeeds("data_preparation.py", dataset="all", workers=1, cwd=folder)
    succeeds("train_vigor.py", **TRAINING | {"epochs": 1}, cwd=folder)
    return folder


@pytest.fixture
def own(vigor, tmp_path):
    """A copy of it to go on with, or to break."""
    return shutil.copytree(vigor, tmp_path, dirs_exist_ok=True)


@pytest.mark.parametrize("kind, train, val", [(VIGOR, CITIES, CITIES), (VIGORCross, CITIES[:2], CITIES[2:])])
def test_pairs_are_the_lists_lines_lie_where_names_and_offsets_say_and_have_no_near_negatives(vigor, kind, train, val):
    for split, cities, same_area in (("train", train, "same_area_balanced_train"), ("val", val, "same_area_balanced_test")):
        pairs, lines, tiles = kind(vigor / "Data").pairs(split, "aerial"), [], set()
        for folder in (vigor / "Data/VIGOR" / city for city in cities):
            path = vigor / "Data/VIGOR/splits" / folder.name / f"{same_area if kind is VIGOR else 'pano_label_balanced'}.txt"
            lines += [(folder, line.split(" ")) for line in path.read_text().splitlines()]  # as VIGOR's code splits them
            tiles |= set(map(str, (folder / "satellite").iterdir()))
        assert len(lines) == len(pairs) and set(pairs.sat_paths) == tiles
        assert len(np.unique(pairs.truth)) < len(tiles) == len(pairs.sat_paths)
        for row, (folder, (panorama, *label)) in enumerate(lines):
            assert pairs.grd_paths[row] == str(folder / "panorama" / panorama) and panorama.startswith(pairs.ids[row] + ",")
            listed = [os.path.basename(pairs.sat_paths[each]) for each in (pairs.truth[row], *pairs.acceptable[row])]
            assert listed[0] == label[0] and sorted(listed) == sorted(label[::3])
            offset = np.float64(label[1:3])  # to the south and west, pixels of tiles of 640, which show 80 m in the toy town
            west, south = pairs.utm[pairs.truth[row]] - pairs.query_utm[row]
            np.testing.assert_allclose([south, west], 0.125 * offset, atol=0.1)
            assert np.abs(offset).max() <= 160
        negatives = negatives_of(pairs, np.arange(3, 9), np.arange(len(pairs)))
        near = [{true, *semi} for true, semi in zip(pairs.truth, pairs.acceptable, strict=True)]
        np.testing.assert_array_equal(negatives, [[pairs.truth[of] not in rows for rows in near] for of in range(3, 9)])
        assert (pairs.truth[3:9, None] != pairs.truth).sum() > negatives.sum() > 0


def by_vigors_formula(sat, grd, pairs):
    """Shares of the queries without a closer reference, of all, and of all but its semi-positives."""
    distances = 2 - 2 * grd.astype(np.float64) @ sat.T.astype(np.float64)
    hits = np.zeros((len(grd), 2))
    for row, (of_query, true, semi) in enumerate(zip(distances, pairs.truth, pairs.acceptable, strict=True)):
        closer = of_query < of_query[true] - 1e-12
        hits[row] = closer.sum() < 1, np.delete(closer, semi).sum() < 1
    return hits.mean(axis=0).tolist()


def test_the_hit_rate_is_vigors_and_not_the_recall_of_acceptable_tiles(vigor):
    pairs, random = VIGOR(vigor / "Data").pairs("train"), np.random.default_rng(0)
    sat = random.standard_normal((len(pairs.sat_paths), 16)).astype(np.float32)
    grd = sat[pairs.truth] + np.stack([sat[rows[:2]].sum(axis=0) for rows in pairs.acceptable])
    grd[::2] += 2 * random.standard_normal((len(grd[::2]), 16)).astype(np.float32)
    sat, grd = unit(sat), unit(grd)
    task = task_of(pairs)
    result = evaluate(task, search(sat, grd, task.truth, task.near, 1))
    found = [result[name]["1"] for name in ("recall", "recall_hit_rate", "recall_acceptable")]
    assert found[:2] == by_vigors_formula(sat, grd, pairs) and found[0] < found[1] < found[2]
    metres = np.hypot(*(pairs.query_utm - pairs.utm[(grd @ sat.T).argmax(axis=1)]).T)  # from panoramas, not from their tiles
    assert result["metres"]["median"] == pytest.approx(np.median(metres)) and "hit_rate" in result["ranks"]
    assert not task_of(pairs, AERIAL_TO_GROUND).has_hit_rate
    # Results by other lists of the same panoramas are not paired, and of a grid not taken for its own.
    other = dataclasses.replace(pairs, acceptable=[rows[1:] for rows in pairs.acceptable])
    assert len({each.digest for each in (task, task_of(pairs), task_of(other), task_of(other, radius=1.0))}) == 3
    assert task_of(other, radius=1.0).digest == task_of(pairs, radius=1.0).digest
    near = task_of(pairs, radius=1.0)  # holds the truth, which is further away
    assert all(true in rows for true, rows in zip(near.truth, near.near, strict=True)) and near.counted == "within_1m"


def test_a_check_reads_each_file_once_also_of_tiles_that_panoramas_and_splits_share(vigor, monkeypatch, capsys):
    monkeypatch.setattr(checked_files, "read_image", read := mock.Mock(wraps=checked_files.read_image))
    assert check_data.main(["--dataset", "vigor", "--data_dir", str(vigor / "Data"), "--workers", "1"]) == 0
    assert "no problems found" in capsys.readouterr().out
    paths = [call.args[0] for call in read.call_args_list]
    assert len(paths) == len({*paths}) == 2 * len(VIGOR(vigor / "Data").pairs("val").sat_paths) + 44


def test_a_town_goes_through_every_script(own):
    output = succeeds("train_vigor.py", **TRAINING, cwd=own)
    assert "going on after epoch 1 of 2" in output and "32 pairs for training, 12 for validation" in output
    output = succeeds("test_vigor.py", network_type="VGG_gp", checkpoint="last", report=True, cwd=own)
    assert f"12 panoramas among {len(VIGOR(own / 'Data').pairs('val').sat_paths)} aerial images" in output
    tested = own / "Result/VIGOR/VGG_gp_polar_1_last.json"
    recall = json.loads(tested.read_text())["recall"]["1"]
    assert recall == float(rows_of(own / "Result/VIGOR/VGG_gp_polar_1.csv")[-1]["recall@1"])
    tables = succeeds("recall_tables.py", output="tables", cwd=own)
    assert all("hit rate" in text for text in (output, tables, tested.with_suffix(".html").read_text()))


def test_slicematchs_lists_and_both_cross_area_scripts_are_found(own):
    flags = {"dataset": "vigor_cross", "labels": "splits", "polar": 0, "rows": "SAFA_8"}
    commands = succeeds("reproduce.py", **flags, dry_run=True, cwd=own)
    assert "check_data.py --dataset vigor_cross --labels splits" in commands and "train_vigor_cross.py" in commands
    os.rename(own / "Data/VIGOR/splits", own / "Data/VIGOR/splits__corrected")
    for corrected in (own / "Data/VIGOR/splits__corrected").glob("*/*_balanced*.txt"):
        corrected.rename(corrected.with_name(f"{corrected.stem}__corrected.txt"))  # as SliceMatch names them
    flags = TRAINING | {"polar": 0, "epochs": 1, "labels": "splits__corrected", "rotate_pairs": True, "flip_pairs": True}
    assert "22 pairs for training, 22 for validation" in succeeds("train_vigor_cross.py", **flags, cwd=own)
    assert "22 panoramas" in succeeds("test_vigor_cross.py", network_type="VGG_gp", polar=0, checkpoint="last", cwd=own)
    assert len(VIGOR(own / "Data").pairs("val")) == 12


def test_what_is_wrong_in_a_list_is_one_line(tmp_path):
    good, tiles = "a,b,1.5,2.5,.jpg", "s_1_2.png 0 0 s_1_3.png 0 -0.5 s_1_4.png 1e-05 0 s_1_5.png 0 0"
    wrong = [good, f"{good} {tiles} 7", f"../{good} {tiles}"]
    wrong += [f"{good} {tiles.replace('0', text, 1)}" for text in ("nan", "x")]
    names = "a,95,2.5,.jpg", "a,1.5,181,.jpg", "a,1.5,.jpg", f"a,{'1' * 200_000},2.5,.jpg", "a\0b,1.5,2.5,.jpg"
    wrong += [f"{name} {tiles}" for name in names] + [f"{good} {tiles.replace('s_1_5', 's_1_6')}"]
    for city in CITIES:
        folder = tmp_path / "VIGOR/splits" / city
        folder.mkdir(parents=True)
        (folder / "satellite_list.txt").write_text("\n".join(tiles.split()[::3] * 2) + "\n\n")
        (folder / "same_area_balanced_test.txt").write_text(f"\ufeff{good} {tiles}\r\n")
    pairs = VIGOR(tmp_path).pairs("val")  # names may hold commas, and tiles that stand there twice are the same
    assert pairs.ids == ["a,b"] * 4 and len(pairs.sat_paths) == len(pairs.utm) == 16
    (folder / "same_area_balanced_test.txt").write_text("\n".join([f"{good} {tiles}", *wrong]))
    refuses("Chicago/same_area_balanced_test.txt: 11 of 12 lines are not .*line 2.*again$", VIGOR(tmp_path).pairs, "val")
    for spoilt, text in (
        (b"", "nothing in it"),
        (b"\xff\xfe\0", "not a text file"),
        (b"satellite.png\n", "1 of 1 lines are not tiles' names"),
    ):
        (folder / "satellite_list.txt").write_bytes(spoilt)
        refuses(text, VIGOR(tmp_path).pairs, "val")
    (folder / "satellite_list.txt").unlink()
    assert "not found; put the dataset into" in complains("check_data.py", dataset="vigor", data_dir=tmp_path, cwd=tmp_path)


def tiles_of(pairs, row):
    return [pairs.sat_paths[tile] for tile in (pairs.truth[row], *pairs.acceptable[row])]


def test_a_tile_that_is_missing_takes_its_panoramas_along_and_no_other_and_mixed_up_lists_are_found(own):
    pairs = VIGOR(own / "Data").pairs("train")
    gone = np.bincount(pairs.truth).argmax()
    os.unlink(pairs.sat_paths[gone])
    kept, note = check_files(pairs, ((32, 128), (32, 128)), skip_missing=True)
    rows = np.flatnonzero(pairs.truth != gone)
    assert "which 2 of 32 pairs need" in note and len(rows) == 30
    for row, before in enumerate(rows):
        assert tiles_of(kept, row) == [path for path in tiles_of(pairs, before) if path != pairs.sat_paths[gone]]
    np.testing.assert_array_equal(kept.query_utm, pairs.query_utm[rows])
    pairs = VIGOR(own / "Data").pairs("val", "aerial")
    alone = next(path for row, path in enumerate(pairs.sat_paths) if row not in pairs.truth)
    os.unlink(alone)  # a tile without panoramas
    path = own / "Data/VIGOR/splits/Seattle/same_area_balanced_train.txt"
    rows = [line.partition(" ") for line in path.read_text().splitlines()]
    path.write_text("".join(f"{rows[-1 - row][0]} {label}\n" for row, (_, _, label) in enumerate(rows)))
    process = run("check_data.py", dataset="vigor", workers=1, cwd=own)
    assert process.returncode == 1 and "panoramas lie outside their tiles" in process.stdout
    assert os.path.basename(alone) in process.stdout


def test_lists_of_vigors_are_no_flag_of_other_datasets(tmp_path):
    assert "--labels: CVUSA has none" in complains("check_data.py", dataset="cvusa", labels="splits", cwd=tmp_path)
