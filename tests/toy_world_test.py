"""The toy town: its two views agree about where things are, and its files are those of CVUSA and CVACT."""

import csv
import dataclasses
import os
import signal
import time

import cv2
import numpy as np
import pytest
import rasterio
import scipy.io
from conftest import complains, start, succeeds

from safa.localization.located_files import read_located_files
from safa.runtime.errors import UserError
from toy_town import dataset as toy_world
from toy_town import district
from toy_town.layout import Town
from toy_town.materials import CELL, MATERIAL
from toy_town.scene import Scene
from toy_town.views import CAMERA, TILE, panorama_view, plain_look, random_look, render_aerial, render_panorama

SMALL = {"aerial_size": 128, "panorama_size": "56x308"}


def polar_map(aerial, height=112, width=616):
    """The polar transform of the method, by nearest neighbours: column 0 looks south, the bottom row is the centre."""
    size = len(aerial)
    i, j = np.mgrid[0:height, 0:width]
    radius = size / 2 / height * (height - 1 - i)
    rows = np.clip(np.round(size / 2 + radius * np.cos(2 * np.pi * j / width)), 0, size - 1).astype(int)
    columns = np.clip(np.round(size / 2 - radius * np.sin(2 * np.pi * j / width)), 0, size - 1).astype(int)
    return aerial[rows, columns]


def azimuth_of_red(image):
    """Mean azimuth in degrees of the red pixels of a panorama or a polar map."""
    blue, green, red = np.moveaxis(image.astype(int), 2, 0)
    columns = np.nonzero((red > 60) & (red > 2 * green) & (red > 2 * blue))[1]
    assert len(columns) > 3, "the red tower is not seen"
    angles = np.radians(180 + 360 * columns / image.shape[1])
    return np.degrees(np.arctan2(np.sin(angles).sum(), np.cos(angles).sum())) % 360


def apart(one, other):
    return abs((one - other + 180) % 360 - 180)


def scene_with_tower(azimuth, distance=25.0):
    """A meadow around cell (0, 0) with a thin red tower at an azimuth in degrees and a distance in metres."""
    scene = Scene.around(0, 0, "meadow")
    angle = np.radians(azimuth)
    red = MATERIAL["red"]
    scene.box(distance * np.sin(angle), -distance * np.cos(angle), 1.6, 1.6, (0.0, -1.0), 9.0, red, red)
    scene.finish()
    return scene


def files_under(folder):
    found = {}
    for where, _, names in os.walk(folder):
        for name in names:
            if name.endswith(".partial"):  # of a killed run; it goes a day later
                continue
            with open(os.path.join(where, name), "rb") as file:
                found[os.path.relpath(os.path.join(where, name), folder)] = file.read()
    return found


def settings(dataset="cvusa", train=6, test=3, seed=1):
    return toy_world.Settings(dataset, train, test, seed, 128, *((56, 308) if dataset == "cvusa" else (112, 224)))


@pytest.mark.parametrize("azimuth", [0, 33, 180, 212.5, 270])
@pytest.mark.parametrize("dataset, size, height, width", [("cvusa", 750, 224, 1232), ("cvact", 256, 224, 448)])
def test_a_landmark_lies_at_the_same_azimuth_in_both_views(azimuth, dataset, size, height, width):
    scene, look = scene_with_tower(azimuth), plain_look()
    panorama = render_panorama(scene, 0, 0, panorama_view(dataset, height, width), look)
    polar = polar_map(render_aerial(scene, 0, 0, size, look))
    assert apart(azimuth_of_red(panorama), azimuth) < 0.5
    assert apart(azimuth_of_red(polar), azimuth) < 1
    assert apart(azimuth_of_red(polar), azimuth_of_red(panorama)) < 1


def test_the_tile_is_centred_on_the_place_and_a_metre_is_as_long_at_every_size():
    look = plain_look()
    for size in (128, 256, 750, 1200):
        tile = render_aerial(scene_with_tower(90, 20.0), 0, 0, size, look)
        rows, columns = np.nonzero((tile[:, :, 2] > 150) & (tile[:, :, 1] < 80))
        assert abs(rows.mean() - size / 2) < 1 + size / 750
        assert abs((columns.mean() - size / 2) * TILE / size - 20) < 0.25


def test_a_tower_rises_to_its_elevation_and_hides_what_is_behind_it():
    view = panorama_view("cvusa", 224, 1232)
    scene = scene_with_tower(0, 15.0)
    blue_behind = MATERIAL["pool"]
    scene.box(0.0, -30.0, 1.0, 1.0, (0.0, -1.0), 9.0, blue_behind, blue_behind)
    column = render_panorama(scene, 0, 0, view, plain_look())[:, 616].astype(int)
    red = np.nonzero((column[:, 2] > 60) & (column[:, 1] < 30))[0]
    top = np.degrees(np.arctan2(9.0 - CAMERA, 14.2))
    foot = np.degrees(np.arctan2(-CAMERA, 14.2))
    degrees = 35 - (np.array([red.min(), red.max()]) + 0.5) * 70 / 224
    assert abs(degrees[0] - top) < 1 and abs(degrees[1] - foot) < 1
    assert len(red) == red.max() - red.min() + 1, "something shines through the tower"


def test_the_same_piece_of_town_is_drawn_alike_from_any_corner():
    town = Town(3)
    whole, part = town.scene(-300, -200, 900, 800), Town(3).scene(0, 0, 400, 300)
    for name in ("height", "top", "facing", "side", "crown", "crown_kind", "texture"):
        inner = getattr(whole, name)[200:500, 300:700]
        # OpenCV clips thick lines at the edge by fixed-point arithmetic, so a few cells may differ.
        assert (inner == getattr(part, name)).mean() > 0.999, name
    assert len(np.unique(part.top)) > 8, "this part of the town is empty"


def test_another_seed_is_another_town():
    one, other = (Town(seed).scene(0, 0, 500, 500) for seed in (1, 2))
    assert (one.top != other.top).mean() > 0.3


def test_cameras_stand_on_roads_in_the_open():
    found, _ = toy_world.place_positions(settings(train=60, test=20))
    low = found.min(axis=0) - 2
    scene = Town(1).scene(*low.tolist(), *(found.max(axis=0) - low + 3).tolist())
    columns, rows = (found - low).T
    assert not scene.height[rows, columns].any()
    roads = [MATERIAL[name] for name in ("asphalt", "asphalt, old", "marking")]
    assert np.isin(scene.top[rows, columns], roads).all()


@pytest.mark.parametrize("dataset", ["cvusa", "cvact"])
def test_training_places_are_far_from_test_places(dataset):
    positions, districts = toy_world.place_positions(settings(dataset, 400, 150))
    metres = positions * CELL
    assert len(positions) == len(districts) == 550 and len(np.unique(positions, axis=0)) == 550
    between = np.hypot(*(metres[:400, None] - metres[None, 400:]).transpose(2, 0, 1))
    assert between.min() > 30


def test_cvusa_has_its_lists_and_sizes(tmp_path):
    toy_world.render_dataset(toy_world.Settings("cvusa", 2, 1, 5, 750, 224, 1232), str(tmp_path))
    root = tmp_path / "CVUSA"
    assert (root / "splits" / "train-19zl.csv").read_text().splitlines() == [
        f"bingmap/19/000000{i}.jpg,streetview/panos/000000{i}.jpg,streetview/annotations/000000{i}.png" for i in (1, 2)
    ]
    assert (root / "splits" / "val-19zl.csv").read_text() == (
        "bingmap/19/0000003.jpg,streetview/panos/0000003.jpg,streetview/annotations/0000003.png\n"
    )
    for i in (1, 2, 3):
        assert cv2.imread(str(root / "bingmap" / "19" / f"000000{i}.jpg")).shape == (750, 750, 3)
        assert cv2.imread(str(root / "streetview" / "panos" / f"000000{i}.jpg")).shape == (224, 1232, 3)
    assert len(files_under(root)) == 6 + 2 + 1


def test_tiles_lie_beside_their_places_by_at_most_the_offset():
    centred, beside = (dataclasses.replace(settings("cvusa", 40, 10), offset=offset) for offset in (0.0, 4.0))
    assert "offset" not in centred.note and beside.note["offset"] == 4.0
    cells = np.array([toy_world._offset(beside, number) for number in range(500)])
    metres = np.hypot(*cells.T) * CELL
    assert metres.max() < 4.1 and 2.4 < metres.mean() < 2.9  # two thirds of the radius: anywhere in the circle
    assert np.abs(cells.mean(axis=0)).max() * CELL < 0.3
    assert toy_world._offset(centred, 3) == (0, 0)


def test_a_district_s_panoramas_lie_where_its_lists_say(tmp_path):
    district.main([str(tmp_path), "--metres", "80", "--panoramas", "4"])
    listed = [read_located_files(str(tmp_path / f"{name}.csv"), True) for name in district.LISTS]
    assert [len(each.paths) for each in listed[:2]] == [4, 4] and len(listed[3].paths) == 1
    with rasterio.open(tmp_path / "orthophoto.tif") as file:
        image, bounds = file.read().transpose(1, 2, 0)[..., ::-1], file.bounds
    with open(tmp_path / "panoramas.csv") as file:
        rows = list(csv.DictReader(file))
    town, size = Town(1), district.PIXELS
    for row in rows:
        x, y = float(row["easting"]) - bounds.left, bounds.top - float(row["northing"])
        assert TILE / 2 <= x <= bounds.right - bounds.left - TILE / 2 and TILE / 2 <= y <= bounds.top - bounds.bottom - TILE / 2
        place = (
            round((float(row["easting"]) - district.ORIGIN[0]) / CELL),
            round((district.ORIGIN[1] - float(row["northing"])) / CELL),
        )
        scene = district._scene(town, np.array([place]))
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


def test_cvact_opens_as_the_real_one_does(tmp_path):
    toy_world.render_dataset(settings("cvact", 60, 30), str(tmp_path))
    root = tmp_path / "ANU_data_small"
    mat = scipy.io.loadmat(root / "ACT_data.mat")
    names, utm = mat["panoIds"], mat["utm"]
    assert names.shape == (90,) and all(len(name) == 22 for name in names) and len(set(names)) == 90
    assert utm.shape == (90, 2) and utm.dtype == np.float64
    assert (np.abs(utm - (693000, 6090000)) < 5000).all()
    train = mat["trainSet"]["trainInd"][0][0]
    assert train.shape == (60, 1) and train[:, 0].tolist() == list(range(1, 61))
    for key in ("valSet", "valSetAll"):
        assert mat[key]["valInd"][0][0][:, 0].tolist() == list(range(61, 91))
    for part in (utm[:60], utm[60:]):
        apart = np.hypot(*(part[:, None] - part[None]).transpose(2, 0, 1))[np.triu_indices(len(part), 1)]
        assert (apart < 5).sum() >= 2 and (apart < 25).sum() >= 20 and apart.min() > 1
    for name in names:
        assert cv2.imread(str(root / "satview_polish" / f"{name}_satView_polish.jpg")).shape == (128, 128, 3)
        assert cv2.imread(str(root / "streetview" / f"{name}_grdView.jpg")).shape == (112, 224, 3)


def test_neighbours_tiles_are_shifted_as_their_coordinates_say():
    wanted = settings("cvact", 60, 1)
    positions, _ = toy_world.place_positions(wanted)
    apart = np.hypot(*((positions[:, None] - positions[None]) * CELL).transpose(2, 0, 1))
    one, other = np.argwhere((apart > 2) & (apart < 5))[0]
    low = positions.min(axis=0) - 650
    scene = Town(1).scene(*low.tolist(), *(positions.max(axis=0) - low + 651).tolist())
    look = plain_look()
    first, second = (
        cv2.cvtColor(render_aerial(scene, *positions[i].tolist(), 600, look), cv2.COLOR_BGR2GRAY) for i in (one, other)
    )
    (dx, dy), certainty = cv2.phaseCorrelate(
        second.astype(np.float64), first.astype(np.float64), cv2.createHanningWindow((600, 600), cv2.CV_64F)
    )
    east, north = (positions[other] - positions[one]) * CELL * (1, -1)
    assert np.allclose((dx, -dy), np.array([east, north]) * 600 / TILE, atol=0.5)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What one uninterrupted process writes for `WHOLE`."""
    folder = tmp_path_factory.mktemp("whole")
    toy_world.render_dataset(settings(train=90, test=8), str(folder))
    return files_under(folder)


WHOLE = SMALL | {"train": 90, "test": 8}


def test_files_do_not_depend_on_the_number_of_workers(tmp_path, whole):
    succeeds("toy_town", **WHOLE, workers=2, data_dir=".", cwd=tmp_path)
    assert files_under(tmp_path) == whole and len(whole) == 2 * 98 + 3


def test_a_killed_run_goes_on_and_ends_as_if_nothing_had_happened(tmp_path, whole):
    process = start("toy_town", **WHOLE, workers=2, data_dir=".", cwd=tmp_path)
    tiles = tmp_path / "CVUSA" / "bingmap" / "19"
    deadline = time.monotonic() + 120
    while not (tiles.is_dir() and len(os.listdir(tiles)) > 10) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert "CVUSA/splits/val-19zl.csv" not in files_under(tmp_path), "it was finished before it could be killed"
    finished = -1
    while finished != (finished := len(files_under(tmp_path))):  # its workers notice and end, too
        time.sleep(0.3)
    written = {path: os.stat(tmp_path / path).st_mtime_ns for path in whole if (tmp_path / path).exists()}
    succeeds("toy_town", **WHOLE, workers=1, data_dir=".", cwd=tmp_path)
    assert files_under(tmp_path) == whole
    again = [path for path, then in written.items() if os.stat(tmp_path / path).st_mtime_ns != then]
    assert len(again) <= 4, "finished files were rendered again"


def test_settings_are_not_mixed(tmp_path):
    toy_world.render_dataset(settings(), str(tmp_path))
    before = files_under(tmp_path)
    flags = SMALL | {"train": 6, "test": 3, "data_dir": "."}
    assert "seed 1 instead of 2" in complains("toy_town", **flags, seed=2, cwd=tmp_path)
    assert files_under(tmp_path) == before
    toy_world.render_dataset(settings("cvact"), str(tmp_path))  # another dataset has a folder of its own


def test_a_foreign_dataset_is_left_alone(tmp_path):
    (tmp_path / "CVUSA" / "bingmap").mkdir(parents=True)
    with pytest.raises(UserError, match="--data_dir"):
        toy_world.render_dataset(settings(), str(tmp_path))
    assert list(files_under(tmp_path)) == []


def test_a_spoilt_note_is_named(tmp_path):
    toy_world.render_dataset(settings(train=1, test=1), str(tmp_path))
    (tmp_path / "CVUSA" / toy_world.NOTE).write_text("{")
    with pytest.raises(UserError, match=toy_world.NOTE):
        toy_world.render_dataset(settings(train=1, test=1), str(tmp_path))


@pytest.mark.parametrize(
    "arguments, word",
    [
        (("--test", "0"), "--test"),
        (("--aerial_size", "0"), "aerial"),
        (("--panorama_size", "112"), "112"),
        (("--dataset", "paris"), "paris"),
        (("--dataset", "cvact", "--panorama_size", "112x616"), "twice"),
        (("--panorama_size", "112x600"), "5.5 times"),
    ],
)
def test_bad_values_are_refused(arguments, word, tmp_path, capsys):
    with pytest.raises((SystemExit, UserError)) as caught:
        toy_world.main([*arguments, "--data_dir", str(tmp_path)])
    if caught.type is SystemExit:
        assert caught.value.code == 2 and word in capsys.readouterr().err
    else:
        assert word in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_colours_alone_do_not_find_the_place(tmp_path):
    count = 40
    toy_world.render_dataset(toy_world.Settings("cvusa", 1, count, 8, 256, 112, 616), str(tmp_path))

    def histograms(folder):
        names = sorted(os.listdir(tmp_path / "CVUSA" / folder))[1:]
        found = [
            cv2.calcHist([cv2.imread(str(tmp_path / "CVUSA" / folder / name))], [0, 1, 2], None, [6] * 3, [0, 256] * 3)
            for name in names
        ]
        found = np.sqrt(np.array(found).reshape(len(names), -1))
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    likeness = histograms("streetview/panos") @ histograms("bingmap/19").T
    assert likeness.shape == (count, count)
    assert (likeness.argmax(axis=1) == np.arange(count)).mean() < 0.3
