"""Pictures say what the numbers say."""

import dataclasses
import itertools
import json
import os
import re
from types import SimpleNamespace

import cv2
import matplotlib.colors
import numpy as np
import pytest
from browser import assert_whole, needs_browser
from conftest import NETWORK, ROOT, complains, refuses, run, succeeds
from forked_scripts import NoPictures

from polar_transform import polar_transform, tile_of_polar
from safa import parts
from safa.datasets.cvact import CVACT
from safa.datasets.cvusa import CVUSA
from safa.datasets.pair_images import PairImages
from safa.datasets.panorama_views import PanoramaView
from safa.launch.page import shown_queries
from safa.localization.answer_page import answer_panel
from safa.report.drawing import GAP, HIT, SOFT, TRUTH, WIDTH, WRONG, Shown, bgr_pixels, file_bytes, image_rows
from safa.report.figures import FigureConfig, FigureSource, draw_figures
from safa.report.page import Section, write_page
from safa.report.pair_sheet import draw_pairs
from safa.report.retrieval_panels import BEST, contact_sheet, query_images, retrieval_panel
from safa.retrieval.attention import branch_maps
from safa.retrieval.evaluation import margins
from safa.retrieval.search import search
from safa.retrieval.task import AERIAL_TO_GROUND, Task, task_of
from safa.settings import NetworkConfig
from VGG import MEAN_BGR

RGB = {tuple(int(colour[start : start + 2], 16) for start in (1, 3, 5)): colour for colour in (HIT, WRONG, TRUTH)}


def frames(panel):
    """The colours of the frames that a line through the lowest images of a panel crosses, from left to right."""
    runs = itertools.groupby(map(tuple, panel[-GAP - 60, :, ::-1].tolist()))
    found = [RGB[pixel] for pixel, _ in runs if pixel in RGB]
    assert found[::2] == found[1::2]  # the left and the right side of each frame
    return found[::2]


def test_frames_are_green_for_hits_red_for_others_and_blue_for_the_truth(monkeypatch):
    tile = np.full((64, 64, 3), 128, np.uint8)
    best = [Shown(tile, f"{rank}: 0.500", colour) for rank, colour in enumerate((WRONG, HIT, WRONG, WRONG, HIT), 1)]
    shown = "query", [Shown(np.zeros((112, 616, 3), np.uint8)), *best, Shown(tile, "truth", TRUTH)]
    panel = bgr_pixels(retrieval_panel(*shown))
    assert abs(panel.shape[1] - WIDTH) <= BEST + 1  # all columns are whole pixels
    assert frames(panel) == [WRONG, HIT, WRONG, WRONG, HIT, TRUTH]
    assert (panel == 0).all(axis=2).any(axis=0).sum() > 0.97 * WIDTH  # the query, black, fills the width
    monkeypatch.setattr("safa.report.retrieval_panels.query_images", lambda tested, row: shown)
    sheet = bgr_pixels(contact_sheet(None, range(3)))
    assert sheet.shape[0] < panel.shape[0] and frames(sheet) == frames(panel)


@pytest.mark.filterwarnings("error")
def test_any_text_is_drawn_and_stays_above_its_image():
    for text in "a\tb\0", "\udcff", "\u65e5\u672c", "a $\\frac{$ b", "x" * 10_000:
        picture = bgr_pixels(image_rows([[Shown(np.full((64, 64, 3), 255, np.uint8), text)] * 4]))
        dark = (picture < 128).any(axis=(0, 2))
        assert dark.any() and not dark[[0, -1]].any()
        assert not any(dark[GAP + number * (picture.shape[1] - GAP) // 4 - GAP // 2] for number in range(1, 4))
        assert file_bytes(image_rows([[Shown(np.zeros((8, 8, 3), np.uint8), text)]], text)).startswith(b"\x89PNG")


def test_the_warp_back_undoes_the_polar_transform():
    rows, columns = np.mgrid[:256, :256] / 256
    tile = np.dstack([200 * rows, 200 * columns, 100 * rows + 100 * columns]).astype(np.uint8)
    back = tile_of_polar(polar_transform(tile).astype(np.float32), 256)
    distance = np.hypot(rows - 0.5, columns - 0.5) * 256
    inside = (distance < 124) & (distance > 4)
    assert np.abs(back[inside] - tile[inside]).max() < 4
    seam = tile_of_polar(np.tile(np.cos(2 * np.pi * np.arange(616) / 616), (112, 1)).astype(np.float32), 256)
    assert np.ptp(seam[200:250, 126:131]) < 0.01  # both ends of the polar map meet in the south


@pytest.mark.parametrize("network_type, polar", [("SAFA_3", 1), ("SAFA_1", 0), ("VGG_gp", 1)])
def test_the_parts_of_a_match_add_up_to_its_similarity(network_type, polar):
    config = NetworkConfig(network_type, polar, **NETWORK)
    model = parts.build_network(config, seed=1)
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (4, *shape, 3)).astype(np.float32) for shape in (config.sat_shape, config.grd_shape)]
    descriptors = [np.asarray(each) for each in model(images, training=False)]
    similarity = np.einsum("nd,nd->n", *(each.astype(np.float64) for each in descriptors))
    for branch, image, other in zip((model.sat, model.grd), images, descriptors[::-1], strict=True):
        maps = branch_maps(branch, image)
        shares = maps.contributions(other)
        assert shares.shape == (4, *maps.maps.shape[1:3]) and np.ptp(shares) > 0
        np.testing.assert_allclose(shares.sum(axis=(1, 2)), similarity, atol=1e-5)
        if network_type != "VGG_gp":
            assert maps.weights.shape == (4, config.aggregation[1], *maps.maps.shape[1:3])


def test_the_hardest_negative_is_the_closest_reference_that_is_no_hit():
    random = np.random.default_rng(0)
    references, queries = (random.standard_normal((40, 8)).astype(np.float32) for _ in range(2))
    near = [np.array([row, (row + 1) % 40]) for row in range(40)]
    task = Task([str(row) for row in range(40)], np.arange(40), np.arange(40), near, "within_5m")
    positive, negative = margins(task, search(references, queries, task.truth, near, top_k=3))
    similarity = queries.astype(np.float64) @ references.T
    np.testing.assert_allclose(positive, np.diagonal(similarity), atol=1e-6)
    expected = [np.delete(of_query, hits).max() for of_query, hits in zip(similarity, near, strict=True)]
    np.testing.assert_allclose(negative, expected, atol=1e-6)


def test_figures_of_a_test_say_which_of_the_named_queries_references_are_hits(trained_on_cvact, tmp_path):
    given = {"network_type": "SAFA_2", "result_dir": tmp_path, "cwd": trained_on_cvact}
    plain = succeeds("test_cvact.py", **given, before=NoPictures.begin)  # loads no library of pictures, nor does training
    failed = run("test_cvact.py", figures=1, **given, before=NoPictures.begin)
    assert "AssertionError: " in failed.stderr  # it is found where they are
    order = CVACT(str(trained_on_cvact / "Data")).pairs("val").ids[:-7:-1]
    flags = {"figures": 6, "queries": ", ".join(order), "save_descriptors": tmp_path / "d.npz"}
    output = succeeds("test_cvact.py", **given, **flags)
    assert plain.split("network:")[0].split("percent")[1] == output.split("network:")[0].split("percent")[1]
    names = [f"{number:03}_{name}" for number, name in enumerate(order, 1)]
    folder = tmp_path / "CVACT/SAFA_2_polar_1.figures"
    assert {path.stem for path in folder.iterdir()} == {*names, "contact_sheet", "similarities"}
    saved, seen = np.load(tmp_path / "d.npz"), set()
    winners = search(saved["sat_descriptors"], saved["grd_descriptors"], np.arange(10), top_k=BEST).winners
    for name, row in zip(names, range(9, 3, -1), strict=True):
        expected = [HIT if winner == row else WRONG for winner in winners[row]]
        assert frames(cv2.imread(str(folder / f"{name}.png"))) == [*expected, TRUTH]
        seen |= set(expected)
    assert seen == {HIT, WRONG} and "--queries" in complains("test_cvact.py", **given, figures=1, queries="0000030,,")


def test_figures_that_contradict_the_test_are_refused():
    task = Task([str(row) for row in range(10)], np.arange(10), np.arange(10))
    for flags, direction, turns, expected in (
        ({"figures": 1, "queries": "99"}, "ground_to_aerial", 1, "no query 99"),
        ({"queries": "3"}, "ground_to_aerial", 1, "--figures"),
        ({"only_wrong": True}, "ground_to_aerial", 1, "--figures"),
        ({"figures": 1, "queries": "3", "only_wrong": True}, "ground_to_aerial", 1, "--only_wrong"),
        ({"attention": 2}, "aerial_to_ground", 1, "--attention"),
        ({"attention": 2}, "ground_to_aerial", 4, "--attention"),
    ):
        view = PanoramaView(search_heading=turns)
        refuses(expected, FigureConfig(**flags).check, task, direction, NetworkConfig(), view)


@pytest.fixture
def source(own_towns):
    """FigureSource of CVUSA's toy town, and its pairs, to break."""
    pairs = CVUSA(str(own_towns / "Data")).pairs("val")
    return FigureSource(PairImages.of(pairs, ((32, 128), (32, 128))), task_of(pairs), "ground_to_aerial", None)


def test_hits_and_others_differ_by_more_than_colour(source, monkeypatch):
    same = np.ones((10, 1), np.float32)
    task = dataclasses.replace(source.task, near=[np.array([row, (row + 1) % 10]) for row in range(10)], counted="near")
    found = dataclasses.replace(search(same, same, task.truth, task.near, top_k=3), winners=np.tile([3, 4, 5], (10, 1)))
    tested = dataclasses.replace(source, task=task, found=found)
    _, (query, *best, truth) = query_images(tested, 3)
    marks = [(each.caption[:3], each.frame) for each in best]
    assert marks == [("✓ 1", HIT), ("✓ 2", HIT), ("✗ 3", WRONG)] and truth.caption.startswith("truth")
    drawn = []
    monkeypatch.setattr("safa.report.retrieval_panels.image_rows", drawn.extend)
    contact_sheet(tested, [3])
    assert [each.caption for each in drawn[0]][1:] == ["✓ 1", "✓ 2", "✗ 3", "truth, 1"]
    drawn, index = [], SimpleNamespace(thumbnail=lambda row: None)  # of a drive, captions show what the order follows
    monkeypatch.setattr("safa.localization.answer_page.image_rows", drawn.extend)
    for probability, first in (0.6, "1: 60 %, 0°"), (None, "1: 0.500, 0°"):
        place = SimpleNamespace(row=0, similarity=0.5, heading=0, tile="a", probability=probability)
        answer_panel(SimpleNamespace(panorama=SimpleNamespace(path="a", image=np.ones((1, 1, 3), "u1")), places=[place]), index)
        assert drawn[-1][0].caption == f"{first}\na" and drawn[-2][0].image.shape == (1, 1, 3)


def test_text_stands_out_from_what_is_behind_it():
    """By the contrast of two colours that WCAG 2 defines."""
    with open(os.path.join(ROOT, "safa/report/page.html"), encoding="utf-8") as file:
        light, dark = re.findall(r"--soft: (#\w+); --paper: (#\w+)", file.read())
    # Captions on white; white numbers on the marks of a map; the page.
    for colours in *((colour, "#ffffff") for colour in (SOFT, HIT, WRONG, TRUTH)), light, dark:
        values = np.array([matplotlib.colors.to_rgb(colour) for colour in colours])
        linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
        less, more = sorted(linear @ (0.2126, 0.7152, 0.0722))
        assert (more + 0.05) / (less + 0.05) >= 4.5, colours


def test_a_turned_query_is_shown_as_the_network_sees_it(source):
    pairs = source.pairs
    whole = cv2.imread(pairs.grd_paths[3])
    turned = PanoramaView(180, True).panoramas(len(pairs), 128, MEAN_BGR)
    images = PairImages.of(pairs, ((32, 128), (32, 128)), turned)
    picture = FigureSource(images, source.task, "ground_to_aerial", None).query(3)
    assert picture.shape == whole.shape and picture.dtype == np.uint8
    shift, half = round(turned.shifts[3] * whole.shape[1] / 128), whole.shape[1] // 2
    np.testing.assert_array_equal(picture[:, :half], np.roll(whole, shift, axis=1)[:, :half])
    np.testing.assert_array_equal(picture[:, half:], np.broadcast_to(np.rint(MEAN_BGR), picture[:, half:].shape))
    np.testing.assert_array_equal(source.query(3), whole)
    of_tile = FigureSource(images, task_of(pairs, AERIAL_TO_GROUND), AERIAL_TO_GROUND, None)
    np.testing.assert_array_equal(of_tile.reference(3), picture)


def test_a_polar_map_is_drawn_where_its_tile_is_missing_or_broken(source):
    pairs = source.pairs
    os.unlink(pairs.tile_paths[0])
    with open(pairs.tile_paths[1], "wb") as file:
        file.write(b"broken")
    cv2.imwrite(pairs.tile_paths[3], np.zeros((64, 80, 3), np.uint8))
    for row in 0, 1, 3:
        np.testing.assert_array_equal(source.reference(row), cv2.imread(pairs.sat_paths[row]))
    np.testing.assert_array_equal(source.reference(2), cv2.imread(pairs.tile_paths[2]))
    os.unlink(pairs.sat_paths[0])
    refuses("cannot be drawn", source.reference, 0)


def test_figures_that_cannot_be_written_are_one_line_after_the_numbers(trained_on_cvact, tmp_path):
    (tmp_path / "CVACT").mkdir()
    (tmp_path / "CVACT/SAFA_2_polar_1.figures").write_text("in the way")
    process = run("test_cvact.py", network_type="SAFA_2", result_dir=tmp_path, figures=2, cwd=trained_on_cvact)
    assert process.returncode == 2 and "recall" in process.stdout
    (line,) = process.stderr.strip().splitlines()
    assert "SAFA_2_polar_1.figures" in line and "stands in the way" in line
    assert json.loads((tmp_path / "CVACT/SAFA_2_polar_1.json").read_text())["queries"] == 10


@pytest.fixture(scope="module")
def page(trained_on_cvact, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    output = succeeds("test_cvact.py", network_type="SAFA_2", result_dir=folder, report=True, figures=2, cwd=trained_on_cvact)
    path = folder / "CVACT/SAFA_2_polar_1.html"
    assert f"page: {path}" in output
    return path


def test_a_page_is_whole_by_itself(page):
    text = page.read_text()
    assert len(text) < 10 * 2**20
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", text) and "http" not in re.sub(r"data:[^\"]*", "", text)
    assert "<script" not in text and text.count("<img ") == len(re.findall(r'<img [^>]*alt="[^"]+"', text)) >= 8
    for section in ("Curves", "Queries", "Worst queries", "What the descriptors rest on", "Places", "Settings and versions"):
        assert f"<h2>{section}</h2>" in text
    assert text.count("git_commit") == text.count("opencv-python-headless") == 2  # of the test, of the training
    assert "95 % interval" in text and 'name="viewport"' in text and "prefers-color-scheme" in text
    assert all('tabindex="0"' in tag for tag in re.findall(r'<(?:div class="wide"|pre)[^>]*>', text))  # scrolled by keys
    anchors = re.findall(r'href="#(\w+)"', text)
    assert anchors and all(f'id="{anchor}"' in text for anchor in anchors)


def test_a_page_shows_a_few_of_many_queries_and_says_so_and_hostile_names_stay_text(tmp_path):
    bad, path = "<script>alert(1)</script>\"'&", tmp_path / "a.html"
    write_page(str(path), bad, bad, [Section("a", bad, bad, [bad], [[bad]], [bad], (), [(bad, bad)])])
    assert "<script" not in path.read_text() and path.read_text().count("&lt;script&gt;") == 12
    task = Task([str(row) for row in range(100)], np.arange(100), np.arange(100))
    similarity = np.eye(100, dtype=np.float32)
    right = FigureSource(None, task, "ground_to_aerial", search(similarity, similarity, task.truth))
    tested = FigureSource(None, task, "ground_to_aerial", search(similarity, similarity, task.truth // 2 * 2))
    rows, note = shown_queries(FigureConfig(only_wrong=True), tested, 40, 24)
    assert len(rows) == 24 and all(row % 2 for row in rows) and "wrong" in note and "24 of 40" in note
    assert shown_queries(FigureConfig(queries="7, 3"), tested, 1, 24) == ([7, 3], "Named.")
    rows, _ = shown_queries(FigureConfig(), tested, 3, 24)
    assert rows == sorted(rows) == shown_queries(FigureConfig(), right, 3, 24)[0]  # the draw is always the same
    assert shown_queries(FigureConfig(only_wrong=True), right, 4, 24) == ([], "No query is wrong.")
    for name in "001_7.png", "attention_001_7.png", "contact_sheet.png", "similarities.png":
        (tmp_path / name).write_text("of an earlier test")
    draw_figures(FigureConfig(figures=4, only_wrong=True), str(tmp_path), right, None)
    assert [path.name for path in tmp_path.glob("*.png")] == ["attention_001_7.png"]


@needs_browser
def test_a_browser_shows_the_whole_page_without_the_network(page, tmp_path):
    assert_whole(page, tmp_path)


def test_a_sheet_of_pairs_says_what_cannot_be_read(own_towns, tmp_path, monkeypatch):
    pairs, drawn = CVUSA(str(own_towns / "Data")).pairs("train"), []
    os.unlink(pairs.tile_paths[1])
    cv2.imwrite(pairs.tile_paths[2], np.zeros((64, 80, 3), np.uint8))
    os.unlink(pairs.grd_paths[3])
    monkeypatch.setattr("safa.report.pair_sheet.image_rows", lambda rows, title: drawn.extend(rows) or image_rows(rows, title))
    draw_pairs(pairs, range(5), str(tmp_path / "pairs.png"))
    assert cv2.imread(str(tmp_path / "pairs.png")).shape[0] > 3 * 150
    captions = [each.caption for row in drawn for each in row]
    assert captions[::2] == pairs.ids[:5]
    expected = ["", "the tile cannot be read", "a tile that is not square has no polar map", "the panorama cannot be read", ""]
    assert captions[1::2] == expected
