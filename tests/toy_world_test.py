"""The toy town: its two views agree about where things are, and its files are those of CVUSA and CVACT."""

import os
import time

import cv2
import numpy as np
import pytest
import rasterio
import scipy.io
import scipy.spatial
from conftest import complains, contents, rows_of, start, succeeds, wait_until

from polar_transform import polar_transform
from safa.localization.located_files import read_located_files
from safa.runtime.errors import UserError
from toy_town import dataset as toy_world
from toy_town import district
from toy_town.layout import Town
from toy_town.materials import CELL, MATERIAL
from toy_town.scene import Scene
from toy_town.views import TILE, panorama_view, plain_look, random_look, render_aerial, render_panorama


def azimuth_of_red(image):
    """Mean azimuth in degrees of the red pixels of a panorama or a polar map."""
    blue, green, red = np.moveaxis(image.astype(int), 2, 0)
    columns = np.nonzero((red > 60) & (red > 2 * green) & (red > 2 * blue))[1]
    assert len(columns) > 3, "the red tower is not seen"
    return np.degrees(np.angle(np.exp(2j * np.pi * (0.5 + columns / image.shape[1])).sum())) % 360


def apart(one, other):
    return abs((one - other + 180) % 360 - 180)


def scene_with_tower(azimuth, distance=25.0):
    """A meadow around cell (0, 0) with a thin red tower at an azimuth in degrees and a distance in metres."""
    scene, angle, red = Scene(-502, -502, 1005, 1005), np.radians(azimuth), MATERIAL["red"]
    scene.box(distance * np.sin(angle), -distance * np.cos(angle), 1.6, 1.6, (0.0, -1.0), 9.0, red, red)
    scene.finish()
    return scene


def files_under(folder):
    return {path: content for path, content in contents(folder).items() if not path.endswith(".partial")}  # a killed run's


def settings(dataset="cvusa", train=6, test=3, seed=1):
    return toy_world.Settings(dataset, train, test, seed, 128, *((56, 308) if dataset == "cvusa" else (112, 224)))


@pytest.mark.parametrize("dataset, size, height, width", [("cvusa", 750, 224, 1232), ("cvact", 256, 224, 448)])
def test_a_landmark_lies_at_the_same_azimuth_in_both_views(dataset, size, height, width):
    look = plain_look()
    for azimuth in 0, 33, 212.5:
        scene = scene_with_tower(azimuth)
        panorama = render_panorama(scene, 0, 0, panorama_view(dataset, height, width), look)
        polar = polar_transform(render_aerial(scene, 0, 0, size, look))
        assert apart(azimuth_of_red(panorama), azimuth) < 0.5 and apart(azimuth_of_red(polar), azimuth) < 1
    tile = render_aerial(scene_with_tower(90, 20.0), 0, 0, size, look)
    rows, columns = np.nonzero((tile[:, :, 2] > 150) & (tile[:, :, 1] < 80))
    assert abs(rows.mean() - size / 2) < 1 + size / 750 and abs((columns.mean() - size / 2) * TILE / size - 20) < 0.25


def test_the_same_piece_of_town_is_drawn_alike_from_any_corner():
    town = Town(3)
    whole, part = town.scene(-300, -200, 900, 800), Town(3).scene(0, 0, 400, 300)
    for name in ("height", "top", "facing", "side", "crown", "crown_kind", "texture"):
        inner = getattr(whole, name)[200:500, 300:700]
        # OpenCV clips thick lines at the edge by fixed-point arithmetic, so a few cells may differ.
        assert (inner == getattr(part, name)).mean() > 0.999, name
    assert len(np.unique(part.top)) > 8, "this part of the town is empty"
    assert (part.top != Town(4).scene(0, 0, 400, 300).top).mean() > 0.3, "another seed is another town"


def test_cameras_stand_on_roads_in_the_open_and_training_places_far_from_test_places():
    found, _ = toy_world.place_positions(settings(train=60, test=20))
    low = found.min(axis=0) - 2
    scene = Town(1).scene(*low.tolist(), *(found.max(axis=0) - low + 3).tolist())
    columns, rows = (found - low).T
    roads = [MATERIAL[name] for name in ("asphalt", "asphalt, old", "marking")]
    assert not scene.height[rows, columns].any() and np.isin(scene.top[rows, columns], roads).all()
    for dataset in "cvusa", "cvact":
        positions, districts = toy_world.place_positions(settings(dataset, 400, 150))
        assert len(positions) == len(districts) == len(np.unique(positions, axis=0)) == 550
        assert scipy.spatial.distance.cdist(positions[:400], positions[400:]).min() * CELL > 30
    for distances in map(scipy.spatial.distance.pdist, (positions[:400] * CELL, positions[400:] * CELL)):  # CVACT's
        assert (distances < 5).sum() >= 2 and (distances < 25).sum() >= 20 and distances.min() > 1


def test_a_district_s_panoramas_lie_where_its_lists_say(tmp_path):
    district.main([str(tmp_path), "--metres", "80", "--panoramas", "4"])
    listed = [read_located_files(str(tmp_path / f"{name}.csv"), True) for name in district.LISTS]
    assert [len(each.paths) for each in listed[:2]] == [4, 4] and len(listed[3].paths) == 1
    with rasterio.open(tmp_path / "orthophoto.tif") as file:
        image, bounds = file.read().transpose(1, 2, 0)[..., ::-1], file.bounds
    town, size = Town(1), district.PIXELS
    for row in rows_of(tmp_path / "panoramas.csv"):
        utm = np.array([float(row["easting"]), float(row["northing"])])
        x, y = utm[0] - bounds.left, bounds.top - utm[1]
        assert TILE / 2 <= x <= bounds.right - bounds.left - TILE / 2 and TILE / 2 <= y <= bounds.top - bounds.bottom - TILE / 2
        place = np.rint((utm - district.ORIGIN) * (1, -1) / CELL).astype(int).tolist()
        scene = town.scene_around(np.array([place]), district.REACH)
        left, top = (round(metres / TILE * size) - size // 2 for metres in (x, y))
        seen = image[top : top + size, left : left + size]
        tile = render_aerial(scene, *place, size, random_look(np.random.default_rng((1, 20))))
        assert correlation(seen, tile) > 0.9 > 0.5 > correlation(np.rot90(seen), tile)
        panorama = cv2.imread(str(tmp_path / row["path"]))
        north_up = np.roll(panorama, round(float(row["heading"]) / 360 * district.WIDTH), axis=1)
        plain = render_panorama(scene, *place, panorama_view("cvusa", district.HEIGHT, district.WIDTH), plain_look())
        assert correlation(north_up[40:], plain[40:]) > 0.6 > correlation(np.roll(north_up, 154, axis=1)[40:], plain[40:])


def correlation(one, other):
    return np.corrcoef(one.astype(float).ravel(), other.astype(float).ravel())[0, 1]


def test_cvact_opens_as_the_real_one_does(towns):
    root = towns / "Data/ANU_data_small"
    mat = scipy.io.loadmat(root / "ACT_data.mat")
    names, utm = mat["panoIds"], mat["utm"]
    assert names.shape == (34,) and all(len(name) == 22 for name in names) and len(set(names)) == 34
    assert utm.shape == (34, 2) and utm.dtype == np.float64 and (np.abs(utm - (693000, 6090000)) < 5000).all()
    positions, _ = toy_world.place_positions(settings("cvact", 24, 10))
    np.testing.assert_allclose(utm - utm[0], (positions - positions[0]) * (CELL, -CELL), atol=1e-6)
    for split, rows in ("train", range(1, 25)), ("val", range(25, 35)):
        assert mat[f"{split}Set"][f"{split}Ind"][0][0].tolist() == [[row] for row in rows]
    np.testing.assert_array_equal(mat["valSetAll"]["valInd"][0][0], mat["valSet"]["valInd"][0][0])
    for name in names:
        assert cv2.imread(str(root / "satview_polish" / f"{name}_satView_polish.jpg")).shape == (128, 128, 3)
        assert cv2.imread(str(root / "streetview" / f"{name}_grdView.jpg")).shape == (224, 448, 3)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What one uninterrupted process writes for `WHOLE`."""
    folder = tmp_path_factory.mktemp("whole")
    toy_world.render_dataset(settings(train=50, test=6), str(folder))
    return files_under(folder)


WHOLE = {"aerial_size": 128, "panorama_size": "56x308", "train": 50, "test": 6}


def test_cvusa_has_its_lists_and_sizes(whole):
    names = (f"{number:07d}" for number in range(1, 57))
    rows = [f"bingmap/19/{name}.jpg,streetview/panos/{name}.jpg,streetview/annotations/{name}.png" for name in names]
    for split, expected in (("train", rows[:50]), ("val", rows[50:])):
        assert whole[f"CVUSA/splits/{split}-19zl.csv"].decode().splitlines() == expected
    for row in rows:
        shapes = [cv2.imdecode(np.frombuffer(whole[f"CVUSA/{path}"], np.uint8), 1).shape for path in row.split(",")[:2]]
        assert shapes == [(128, 128, 3), (56, 308, 3)]
    assert len(whole) == 2 * 56 + 3


def test_a_killed_run_goes_on_and_ends_as_if_nothing_had_happened(tmp_path, whole):
    process = start("toy_town", **WHOLE, workers=2, data_dir=".", cwd=tmp_path)
    tiles = tmp_path / "CVUSA" / "bingmap" / "19"
    wait_until(lambda: tiles.is_dir() and len(os.listdir(tiles)) > 10, process)
    process.kill()
    process.wait()
    assert "CVUSA/splits/val-19zl.csv" not in files_under(tmp_path), "it was finished before it could be killed"
    finished = -1
    while finished != (finished := len(files_under(tmp_path))):  # its workers notice and end, too
        time.sleep(0.3)
    assert "seed 1 instead of 3" in complains("toy_town", **WHOLE | {"seed": 3}, data_dir=".", cwd=tmp_path)
    written = {path: os.stat(tmp_path / path).st_mtime_ns for path in whole if (tmp_path / path).exists()}
    succeeds("toy_town", **WHOLE, workers=2, data_dir=".", cwd=tmp_path)
    assert files_under(tmp_path) == whole  # of one process
    again = [path for path, then in written.items() if os.stat(tmp_path / path).st_mtime_ns != then]
    assert len(again) <= 4, "finished files were rendered again"


def test_bad_values_and_foreign_folders_are_refused(tmp_path, capsys):
    (tmp_path / "foreign/CVUSA/bingmap").mkdir(parents=True)
    (tmp_path / "spoilt/CVUSA").mkdir(parents=True)
    (tmp_path / "spoilt/CVUSA" / toy_world.NOTE).write_text("{")
    before = files_under(tmp_path)
    for words, folder, expected in (
        ("--test 0", "", "--test"),
        ("--panorama_size 112", "", "112"),
        ("--dataset cvact --panorama_size 112x616", "", "twice"),
        ("--panorama_size 112x600", "", "5.5 times"),
        ("--dataset vigor --train 3", "", "four cities"),
        ("--dataset vigor --offset 4", "", "lie on a grid"),
        ("", "foreign", "--data_dir"),
        ("", "spoilt", toy_world.NOTE),
    ):
        with pytest.raises((SystemExit, UserError)) as caught:
            toy_world.main([*words.split(), "--data_dir", str(tmp_path / folder)])
        assert expected in f"{caught.value} {capsys.readouterr().err}" and files_under(tmp_path) == before
