"""localize.py as a user runs it: build, query, calibrate, and their mistakes."""

import functools
import json
import os
import shutil
import signal

import conftest
import cv2
import numpy as np
import pyproj
import pytest
from browser import assert_whole, needs_browser
from conftest import complains, contents, refuses, rows_of, run, succeeds
from forked_scripts import die_after_batches

from safa import parts
from safa.localization import Index
from safa.localization.tile_map import BACKGROUND, BEST, MARK, Mark, TileMap
from safa.report.drawing import bgr_pixels
from safa.settings import NetworkConfig
from safa.training.weights import write_keras_weights
from tests.localization.photo_geometry_test import photo

NETWORK = {"network_type": "SAFA_2", **conftest.NETWORK}
BUILD = {"checkpoint": "net.weights.h5", "tile_metres": 80, "input_vertical_fov": 65.45, "batch_size": 3, **NETWORK}
EPSG, EAST, NORTH, STEP = 32755, 693000.0, 6090000.0, 40.0  # a row of places
TILES = 34
TILE, PANORAMA = "Data/CVUSA/bingmap/19/{:07d}.jpg", "Data/CVUSA/streetview/panos/{:07d}.jpg"


def write_list(path, images, step=STEP):
    """A CSV list of images, each with the number of its place, along the row of places."""
    lines = [f"{image},{EAST + step * number},{NORTH},{EPSG}" for image, number in images]
    path.write_text("\n".join(["path,easting,northing,epsg", *lines]) + "\n")


@pytest.fixture(scope="module")
def made(towns, tmp_path_factory):
    """A folder with a network, lists of all tiles and of the test places' panoramas, and an index. Not to be changed."""
    folder = tmp_path_factory.mktemp("localized")
    os.symlink(towns / "Data", folder / "Data")
    for name, seed in (("net", 1), ("other", 2)):
        write_keras_weights(str(folder / f"{name}.weights.h5"), parts.build_network(NetworkConfig(**NETWORK), seed=seed))
    write_list(folder / "tiles.csv", [(folder / TILE.format(n + 1), n) for n in range(TILES)])
    write_list(folder / "panoramas.csv", [(folder / PANORAMA.format(n + 1), n) for n in range(24, TILES)])
    succeeds("localize.py", "build", "index", tiles="tiles.csv", dtype="float32", **BUILD, cwd=folder)
    return folder


@pytest.fixture
def own(made, tmp_path):
    """A copy to break."""
    return shutil.copytree(made, tmp_path, symlinks=True, dirs_exist_ok=True)


def files_of(folder):
    """The bytes of an index but its network's, whose dropout draws another seed in every process."""
    return contents(folder, "network.weights.h5")


def test_the_true_place_is_found_as_often_as_the_test_script_reports(made, tmp_path):
    write_list(tmp_path / "ten.csv", [(made / TILE.format(n + 1), n) for n in range(24, TILES)])
    shutil.copy(made / "net.weights.h5", tmp_path)
    succeeds("localize.py", "build", "ten", tiles="ten.csv", dtype="float32", **BUILD, cwd=tmp_path)
    succeeds("localize.py", "query", "ten", made / "panoramas.csv", top=10, merge_metres=0, csv="places.csv", cwd=tmp_path)
    flags = {"data_dir": made / "Data", "result_dir": "R", "checkpoint": "net.weights.h5", "descriptors": "memory", **NETWORK}
    succeeds("test_cvusa.py", **flags, cwd=tmp_path)
    (result,) = (tmp_path / "R/CVUSA").glob("SAFA_2_polar_1_net.weights.h5_*.json")
    recall = json.loads(result.read_text())["recall"]
    found = rows_of(tmp_path / "places.csv")
    ranks = [int(row["rank"]) for row in found if os.path.basename(row["tile"]) == os.path.basename(row["panorama"])]
    assert len(ranks) == 10
    for k in (1, 5, 10):
        assert np.mean(np.array(ranks) <= k) == pytest.approx(recall[str(k)])


def test_coordinates_survive_from_the_list_to_geojson_and_the_library_answers_as_the_script(made, tmp_path):
    flags = {"top": 3, "geojson": "places.geojson", "json": "a.json"}
    assert "within 25 m" in succeeds("localize.py", "query", made / "index", made / "panoramas.csv", **flags, cwd=tmp_path)
    expected = json.loads((tmp_path / "a.json").read_text())["answers"][5]["places"]
    (answer,) = Index(str(made / "index")).query([str(made / PANORAMA.format(30))], top=3)
    assert [place.tile for place in answer.places] == [place["tile"] for place in expected]
    found = json.loads((tmp_path / "places.geojson").read_text())["features"]
    assert len(found) == 30
    transformer = pyproj.Transformer.from_crs(4326, EPSG, always_xy=True)
    for feature in found:
        easting, northing = transformer.transform(*feature["geometry"]["coordinates"])
        number = int(os.path.basename(feature["properties"]["tile"]).removesuffix(".jpg")) - 1
        assert np.hypot(easting - EAST - STEP * number, northing - NORTH) < 0.01


def test_a_killed_build_goes_on_and_ends_in_the_same_bytes_and_a_broken_tile_costs_no_finished_rows(made, tmp_path):
    tiles = tmp_path / "tiles"
    shutil.copytree(made / "Data/CVUSA/bingmap/19", tiles)
    write_list(tmp_path / "tiles.csv", [(tiles / f"{n + 1:07d}.jpg", n) for n in range(24)], step=1)
    flags = {"tiles": "tiles.csv", **BUILD, "checkpoint": made / "net.weights.h5", "pca": 8}
    four = {"before": functools.partial(die_after_batches, 4), "cwd": tmp_path}
    broken, content = tiles / "0000014.jpg", (tiles / "0000014.jpg").read_bytes()
    broken.write_bytes(content[: len(content) // 2] + content[-2:])
    said = complains("localize.py", "build", "index", **flags, cwd=tmp_path)
    assert "0000014.jpg" in said and "replace the file, and run the same command again" in said
    broken.write_bytes(content)
    succeeds("localize.py", "build", "index", **flags, **four)  # of eight batches: the four from the broken tile's on

    killed = run("localize.py", "build", "killed", **flags, **four)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert json.loads((tmp_path / "killed/index.unfinished/full.json").read_text())["done"] == 12
    shutil.copytree(tmp_path / "killed", tmp_path / "changed")
    assert "no finished index" in complains("localize.py", "query", "killed", made / "panoramas.csv", cwd=tmp_path)
    other = flags | {"tile_metres": 70}
    assert "holds 12 tiles of a build with other" in complains("localize.py", "build", "killed", **other, cwd=tmp_path)

    said = succeeds("localize.py", "build", "killed", **flags, cwd=tmp_path)
    assert "by its full descriptor first in" in said and "finished before" not in said
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "index")
    assert "was finished before" in succeeds("localize.py", "build", "killed", **flags, cwd=tmp_path)

    shutil.copy(tiles / "0000020.jpg", tiles / "0000002.jpg")  # after it was described
    for folder in ("changed", "new"):
        succeeds("localize.py", "build", folder, **flags, cwd=tmp_path)
    assert files_of(tmp_path / "changed") == files_of(tmp_path / "new") != files_of(tmp_path / "killed")


def test_a_turned_panorama_is_found_where_it_was_with_its_heading(made, tmp_path):
    index, path, turned = Index(str(made / "index")), str(made / PANORAMA.format(30)), str(tmp_path / "turned.png")
    cv2.imwrite(turned, np.roll(cv2.imread(path), -154, axis=1))  # its centre looks a quarter to the right: east
    (straight,) = index.query([path])
    (known,) = index.query([turned], heading=90.0)
    assert known.places[0].similarity == pytest.approx(straight.places[0].similarity, abs=1e-5)
    (unknown,) = index.query([turned], unknown_heading=True, turns=4, merge_metres=0.0, top=34)
    same = next(place for place in unknown.places if place.row == straight.places[0].row)
    assert same.similarity >= straight.places[0].similarity - 1e-5


def test_answers_are_calibrated_less_sure_ones_are_unknown_and_far_known_locations_are_said(own):
    write_list(own / "known.csv", [(PANORAMA.format(n + 1), n) for n in range(TILES)])
    (own / "far.csv").write_text((own / "known.csv").read_text().replace(str(EPSG), str(EPSG - 1)))
    assert "34 known locations lie far outside" in complains("localize.py", "calibrate", "index", "far.csv", cwd=own)
    assert not (own / "index/calibration.json").exists()
    said = succeeds("localize.py", "calibrate", "index", "known.csv", wrong_share=0.2, cwd=own)
    assert "of 34 best places are right" in said
    asked = succeeds("localize.py", "query", "index", "panoramas.csv", json="a.json", html="a.html", cwd=own)
    assert "confidence: of 34 calibrated answers" in asked and ">confidence<" in (own / "a.html").read_text()
    answers = json.loads((own / "a.json").read_text())["answers"]
    threshold = next(iter(json.loads((own / "index/calibration.json").read_text())["views"].values()))["threshold"]
    assert all(answer["known"] == (answer["confidence"] >= threshold) for answer in answers)
    assert "not calibrated" in succeeds("localize.py", "query", "index", "panoramas.csv", fov=90, cwd=own)
    assert "10 panoramas are too few" in complains("localize.py", "calibrate", "index", "panoramas.csv", cwd=own)
    assert "no known location" in complains("localize.py", "calibrate", "index", *[PANORAMA.format(1)] * 20, cwd=own)
    gps = {1: "S", 2: (35.3, 0.0, 0.0), 3: "W", 4: (149.1, 0.0, 0.0)}  # a photo's own location is known only on request
    photo(own / "photo.jpg", gps=gps, image=cv2.imread(str(own / PANORAMA.format(1))))
    said = succeeds("localize.py", "query", "index", "photo.jpg", cwd=own)
    assert "1 rough places" in said and "1 photos say no heading; north is assumed" in said and "known location" not in said
    said = succeeds("localize.py", "query", "index", "photo.jpg", truth="exif", cwd=own)
    assert "warning: 1 known locations lie far outside the index: photo.jpg" in said and "1 panoramas of known location" in said


@pytest.fixture(scope="module")
def page(made):
    """A page of a drive of ten panoramas, some of them called as no file should be."""
    names = {"<script>alert(1)∕<script>.jpg": 24, 'a "b" & ünï.jpg': 25} | {f"{n}.jpg": n for n in range(26, TILES)}
    for name, number in names.items():
        shutil.copy(made / PANORAMA.format(number + 1), made / name)
    write_list(made / "named.csv", [('"' + name.replace('"', '""') + '"', number) for name, number in names.items()])
    succeeds("localize.py", "query", "index", "named.csv", sequence=40, top=3, html="page.html", csv="page.csv", cwd=made)
    return made / "page.html"


def test_a_drive_is_answered_with_probabilities_and_its_page_holds_everything_and_no_foreign_script(page):
    first = [row for row in rows_of(page.with_name("page.csv")) if row["rank"] == "1"]
    assert len(first) == 10 and all(0 < float(row["probability"]) <= 1 for row in first)
    text = page.read_text()
    assert "<script" not in text and "&lt;script&gt;" in text
    assert text.count("<img") == 1 + 2 * 10 == text.count('src="data:image/') and 'alt=""' not in text
    assert len(text) < 10 * 2**20 and "http" not in text.replace("http-equiv", "")


@needs_browser
def test_a_browser_shows_the_whole_page_without_the_network(page, tmp_path):
    assert_whole(page, tmp_path)


def test_a_map_shows_the_tiles_where_they_are_and_marks_on_them(made, monkeypatch):
    index = Index(str(made / "index"))
    drawn = TileMap(index)
    ends = index.metres[[0, TILES - 1]]
    plain, marked = (bgr_pixels(drawn.draw(marks)) for marks in ([], [Mark(tuple(place), "", BEST) for place in ends]))
    changed = np.argwhere((plain != marked).any(axis=2))[:, ::-1]
    for (x, y), own in zip(drawn.pixels(ends), (changed[changed[:, 0] < 400], changed[changed[:, 0] > 400]), strict=True):
        np.testing.assert_allclose(own.mean(axis=0), (x, y), atol=1)
        assert len(own) == pytest.approx(np.pi * (MARK + 2) ** 2, rel=0.3)  # smooth edges
        blue, green, red = marked[int(y), int(x)].tolist()
        assert f"#{red:02x}{green:02x}{blue:02x}" == BEST
    monkeypatch.setattr(index, "thumbnail", lambda row, own=index.thumbnail: None if row else own(row))
    partly = TileMap(index)  # as of two indexes of which one keeps no pictures: its tiles are dots
    x, y = partly.pixels(ends)[1].round().astype(int)
    assert (bgr_pixels(partly.draw([]))[y, x] != BACKGROUND).any()


def test_tiles_that_are_missing_or_of_another_ground_size_are_named(own):
    header, *lines = (own / "tiles.csv").read_text().replace("03.jpg", "gone.jpg").replace("05.jpg", "04.jpg").splitlines()
    (own / "tiles.csv").write_text("\n".join([f"{header},tile_metres", *(f"{line},90" for line in lines)]))
    flags = BUILD | {"tiles": "tiles.csv"}
    assert "gone.jpg" in complains("localize.py", "build", "new", **flags, cwd=own)
    flags["skip_missing"] = True
    assert "0000001.jpg 90.0 m of ground" in complains("localize.py", "build", "new", **flags | {"tile_metres": 40}, cwd=own)
    assert not (own / "new").exists()
    said = succeeds("localize.py", "build", "new", **flags, cwd=own)
    for text in "33 tiles: west 149.1", "1 tiles of the list do not exist", "warning: 33 tiles show another ground size":
        assert text in said
    assert "warning: 1 files are listed at several places, one is right: " in said


def test_a_damaged_index_is_named_with_its_file(made, tmp_path):
    index = tmp_path / "index"
    np.save(tmp_path / "columns.npy", np.asfortranarray(np.load(made / "index/descriptors.npy")))
    for name, damage, said in (  # "/2": it is cut off; None: it is not there; else what is put in its place
        ("descriptors.npy", "/2", "descriptors.npy: missing, cut off or damaged"),
        ("descriptors.npy", "index/thumbnails.npy", "descriptors.npy: .*uint8 of shape"),
        ("descriptors.npy", tmp_path / "columns.npy", "descriptors.npy: .* by columns"),
        ("approximate.faiss", "index/tiles.npy", "approximate.faiss: .*has changed"),
        ("tiles.json", "/2", "tiles.json: missing, cut off or damaged"),
        ("network.weights.h5", "/2", "cannot be read as weights"),
        ("network.weights.h5", "other.weights.h5", "other weights"),
        ("index.json", b'{"format": 1}', "of another version"),
        ("calibration.json", b"[]", "calibrate again"),
        ("locations.npy", None, "locations.npy: missing"),
    ):
        content = damage
        if damage == "/2":
            content = (made / "index" / name).read_bytes()[: os.path.getsize(made / "index" / name) // 2]
        elif isinstance(damage, (str, os.PathLike)):
            content = (made / damage).read_bytes()
        shutil.copytree(made / "index", index)
        (index / name).write_bytes(content) if content is not None else (index / name).unlink()
        refuses(said, lambda: Index(str(index)).query([str(made / PANORAMA.format(30))]))
        shutil.rmtree(index)


def test_mistakes_are_one_line_each(own):
    (own / "foreign").mkdir()
    (own / "foreign/full.json").write_text("{}")  # of another program
    build, asked = BUILD | {"tiles": "tiles.csv"}, "query index panoramas.csv"
    for words, flags, said in (
        ("build index", build, "if the tiles only moved, link them to where they were, "),
        ("build .", build, "not of an index"),
        ("build foreign", build, "not of an index"),
        ("build new", build | {"pca": 64}, "--pca 64: not less than"),
        ("build new", build | {"tile_metres": None}, "--tile_metres: net.weights.h5 does not say"),
        ("build new", build | {"polar": 0, "no_stretch": True}, "--no_stretch: of polar maps"),
        ("build new", build | {"width": 256}, "cannot be read as weights"),
        ("build new", build | {"zoom": 0, "spacing": 5}, "--zoom, --spacing: the tiles of tiles.csv take no such flag"),
        (asked, {"checkpoint": "other.weights.h5"}, "other weights than those that index was built with"),
        (asked, {"approximate": True}, "--approximate: index was built without it"),
        (asked, {"heading": 3, "unknown_heading": True}, "contradict"),
        (asked, {"turns": 4}, "--unknown_heading"),
        (asked, {"mount": 90}, "--gpx"),
        (asked, {"mount": 90, "gpx": "a.gpx", "unknown_heading": True}, "of its headings alone"),
        (asked, {"json": "nowhere/a.json"}, "--json nowhere/a.json"),
        (f"query index {TILE.format(1)}", {}, "are not a panorama of --fov 360"),
        ("query index gone.jpg", {}, "no such panorama"),
        ("query gone panoramas.csv", {}, "no index; build one"),
    ):
        assert said in complains("localize.py", *words.split(), **flags, cwd=own)
