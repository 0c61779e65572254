"""Pictures say what the numbers say."""

import json
import os
import re
import types

import cv2
import numpy as np
import pytest
from browser import needs_browser, opened
from conftest import SMALL, complains, run, succeeds

import check_data
from polar_transform import polar_transform, sample_coordinates, tile_of_polar
from safa.datasets.cvusa import CVUSA
from safa.datasets.findings import Finding
from safa.datasets.panorama_views import PanoramaView
from safa.launch.page import recall_section, shown_queries
from safa.report import figures
from safa.report.attention_panels import GAP as ATTENTION_GAP
from safa.report.attention_panels import ROW, spread_over
from safa.report.canvas import BLUE, GREEN, RED, Canvas
from safa.report.charts import place_map
from safa.report.figures import FigureSource
from safa.report.page import Section, Table, write_page
from safa.report.published import Published
from safa.report.retrieval_panels import CAPTION, CELL, FRAME, GAP, SHOWN, SIDE, WIDTH, Shown, contact_sheet, retrieval_panel
from safa.report.suspicious_pairs import pair_card
from safa.retrieval.attention import branch_maps
from safa.retrieval.margins import margins
from safa.retrieval.search import search
from safa.retrieval.task import Task, task_of
from safa.runtime.errors import UserError
from safa.settings import NetworkConfig
from spatial_net import branches, network
from VGG import MEAN_BGR

WITHOUT_PICTURES = "tests/programs/without_pictures.py"


@pytest.fixture(scope="module")
def trained(towns, tmp_path_factory):
    """A folder with a network trained on both toy towns, without libraries of pictures. Not to be changed."""
    folder = tmp_path_factory.mktemp("trained")
    os.symlink(towns / "Data", folder / "Data")
    for script in "train_cvusa.py", "train_cvact.py":
        succeeds(WITHOUT_PICTURES, script, **SMALL, network_type="SAFA_2", epochs=1, cwd=folder)
    return folder


LEFTS = [GAP + number * CELL for number in range(SHOWN)] + [GAP + SHOWN * CELL + GAP]  # of the frames of square references


def frames(panel, query_shape):
    """The colours of a panel's six frames, RGB, each looked at on both sides; the references are square."""
    height = round(min(SIDE, query_shape[0] * (WIDTH - 2 * GAP) / query_shape[1]))
    row = panel[GAP + CAPTION + height + GAP + FRAME + SIDE // 2]
    sides = [row[left + np.array([FRAME // 2, FRAME + SIDE + FRAME // 2])] for left in LEFTS]
    assert all((left == right).all() for left, right in sides)
    return [tuple(left[::-1].tolist()) for left, _ in sides]


def shown(rank, is_hit, grey=128):
    return Shown(np.full((64, 64, 3), grey, np.uint8), rank, 1 - rank / 10, is_hit)


def test_frames_are_green_for_hits_and_red_for_others_and_the_truth_stands_apart():
    best = [shown(rank, is_hit) for rank, is_hit in enumerate((False, True, False, False, True), 1)]
    panel = retrieval_panel("query", np.zeros((112, 616, 3), np.uint8), best, shown(2, True))
    assert panel.shape[1] == WIDTH
    assert frames(panel, (112, 616)) == [RED, GREEN, RED, RED, GREEN, BLUE]
    for left in LEFTS:
        np.testing.assert_array_equal(panel[-GAP - CAPTION - FRAME - SIDE // 2, left + FRAME + SIDE // 2], 128)
    sheet = contact_sheet([panel] * 3)
    assert sheet.shape[1] > WIDTH and sheet.shape[0] > panel.shape[0]


def test_panoramas_and_polar_maps_among_the_references_are_drawn_large():
    image = np.full((112, 616, 3), 128, np.uint8)
    best = [Shown(image, rank, 0.5, rank == 2) for rank in range(1, SHOWN + 1)]
    panel = retrieval_panel("query", np.zeros((100, 100, 3), np.uint8), best, Shown(image, 2, 0.5, True))
    rows = np.flatnonzero((panel == 128).all(axis=2).sum(axis=1) > 0.8 * WIDTH)
    assert panel.shape[1] == WIDTH and len(rows) > 3 * 110  # three rows of two
    colours = {tuple(each) for each in panel[rows[len(rows) // 6], :, ::-1].tolist()}
    assert {RED, GREEN} <= colours and BLUE not in colours
    colours = {tuple(each) for each in panel[rows[-5], :, ::-1].tolist()}
    assert {RED, BLUE} <= colours and GREEN not in colours


def test_text_that_no_font_has_is_drawn_nevertheless():
    for text in "a\nb\t\0", "\udcff", "\u65e5\u672c", "x" * 10_000:
        canvas = Canvas(300, 30)
        canvas.write(text, 5, 5, width=290)
        assert (canvas.pixels < 128).any() and (canvas.pixels[:, 296:] == 255).all()


def test_many_figures_are_written_one_at_a_time_and_the_contact_sheet_stays_small(tmp_path, monkeypatch):
    count = figures.MOST_ON_SHEET + 3

    def panels(tested, rows):
        for number, row in enumerate(rows):
            assert len(list(tmp_path.glob("0*.png"))) == number
            yield np.full((60, WIDTH, 3), row, np.uint8)

    monkeypatch.setattr(figures, "retrieval_panels", panels)
    (tmp_path / "007_earlier.png").write_bytes(b"of an earlier test")
    (tmp_path / "mine.png").write_bytes(b"")
    task = Task([str(row) for row in range(count)], np.arange(count), np.arange(count))
    tested = FigureSource(None, task, "ground_to_aerial", None, None, None, None, 128)
    paths = figures.draw_retrievals(str(tmp_path), tested, range(count))
    assert {path.name for path in tmp_path.iterdir()} == {os.path.basename(path) for path in paths} | {"mine.png"}
    first = [np.full((60, WIDTH, 3), row, np.uint8) for row in range(count - 3)]
    assert cv2.imread(str(tmp_path / "contact_sheet.png")).shape == contact_sheet(first).shape


def test_wrong_places_stand_out_on_the_map_of_places():
    content = place_map(np.array([[5e5, 6e6], [5e5 + 300, 6e6 + 200]]), np.array([0, 99]))
    picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    places = picture[: picture.shape[0] * 3 // 4].reshape(-1, 3).astype(int)  # without the bar of colours
    for colour in ((68, 1, 84), (157, 217, 59)):  # of the worst rank, of the best
        assert (np.abs(places[:, ::-1] - colour).max(axis=1) < 12).sum() > 10, colour
    assert place_map(np.zeros((1, 2)), np.zeros(1, int)).startswith(b"\x89PNG")


def test_a_run_without_pictures_loads_no_library_of_pictures(trained, tmp_path):  # as those of `trained`
    given = {"network_type": "SAFA_2", "result_dir": tmp_path, "cwd": trained}
    assert "recall" in succeeds(WITHOUT_PICTURES, "test_cvusa.py", **given)
    process = run(WITHOUT_PICTURES, "test_cvusa.py", figures=1, **given)
    assert "AssertionError: " in process.stderr  # the program does find them


def test_a_sector_that_is_painted_on_the_polar_map_lies_in_that_direction_on_the_tile():
    polar = np.zeros((112, 616), np.float32)
    polar[:, 308 - 20 : 308 + 20] = 1  # north
    tile, reached = tile_of_polar(polar, 200)
    assert tile[20:90, 100].min() > 0.99 and tile[110:, 100].max() < 0.01 and tile[100, 20:90].max() < 0.01
    assert not reached[0, 0] and not reached[-1, -1] and reached[100, 2]
    polar = np.zeros((112, 616), np.float32)
    polar[:, 462 - 20 : 462 + 20] = 1  # east
    tile, _ = tile_of_polar(polar, 200)
    assert tile[100, 110:180].min() > 0.99 and tile[100, :90].max() < 0.01


def test_the_warp_back_undoes_the_polar_transform():
    rows, columns = np.mgrid[:256, :256] / 256
    tile = np.dstack([200 * rows, 200 * columns, 100 * rows + 100 * columns]).astype(np.uint8)
    polar = polar_transform(tile)
    back, reached = tile_of_polar(polar.astype(np.float32), 256)
    distance = np.hypot(*(np.mgrid[:256, :256] - 128.0))
    inside = reached & (distance < 124) & (distance > 4)
    assert np.abs(back[inside] - tile[inside]).max() < 4
    rows, columns = sample_coordinates(256)
    seam, _ = tile_of_polar(np.tile(np.cos(2 * np.pi * np.arange(616) / 616), (112, 1)).astype(np.float32), 256)
    near_south = seam[140:250, 126:131]  # both ends of the polar map meet in the south
    assert np.ptp(near_south[60:]) < 0.01


@pytest.mark.parametrize("network_type, polar", [("SAFA_3", 1), ("SAFA_1", 0), ("VGG_gp", 1)])
def test_the_parts_of_a_match_add_up_to_its_similarity(network_type, polar):
    config = NetworkConfig(network_type, polar, height=48, width=160, aerial_input_size=64, width_multiplier=0.1)
    model = network(config, seed=1)
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (4, *shape, 3)).astype(np.float32) for shape in (config.sat_shape, config.grd_shape)]
    descriptors = [np.asarray(branch(image, training=False)) for branch, image in zip(branches(model), images, strict=True)]
    similarity = np.einsum("nd,nd->n", *(each.astype(np.float64) for each in descriptors))
    for view, image, other in zip(("sat", "grd"), images, descriptors[::-1], strict=True):
        maps = branch_maps(model, view, image)
        parts = maps.contributions(other)
        assert parts.shape == (4, *maps.maps.shape[1:3]) and np.ptp(parts) > 0
        np.testing.assert_allclose(parts.sum(axis=(1, 2)), similarity, atol=1e-5)
        if network_type != "VGG_gp":
            assert maps.weights.shape == (4, config.aggregation[1], *maps.maps.shape[1:3])


def test_a_position_lies_over_the_pixels_that_its_poolings_join():
    values = np.zeros((4, 20))
    values[1, 3] = 1
    spread = spread_over(values, (112, 616))
    assert spread.shape == (112, 616)
    row, column = np.unravel_index(spread.argmax(), spread.shape)
    assert abs(row - 47.5) <= 1 and abs(column - 111.5) <= 1  # the middle of pixels 32 to 63 and 96 to 127
    assert spread_over(np.zeros((7, 39)), (112, 616)).shape == (112, 616)


def test_the_hardest_negative_is_the_closest_reference_that_is_no_hit():
    random = np.random.default_rng(0)
    references, queries = (random.standard_normal((40, 8)).astype(np.float32) for _ in range(2))
    near = [np.array([row, (row + 1) % 40]) for row in range(40)]
    task = Task([str(row) for row in range(40)], np.arange(40), np.arange(40), near, "within_5m")
    found = search(references, queries, task.truth, task.near, top_k=16)
    positive, negative = margins(task, found)
    similarity = queries.astype(np.float64) @ references.T
    np.testing.assert_allclose(positive, np.diagonal(similarity), atol=1e-6)
    for row in range(40):
        others = np.delete(similarity[row], near[row])
        assert negative[row] == pytest.approx(others.max(), abs=1e-6)


def test_figures_of_a_test_show_the_queries_that_are_asked_for(trained, tmp_path):
    given = {"network_type": "SAFA_2", "result_dir": tmp_path}
    plain = succeeds("test_cvact.py", **given, cwd=trained)
    output = succeeds("test_cvact.py", **given, figures=3, attention=1, cwd=trained)
    assert plain.split("network:")[0].split("percent")[1] == output.split("network:")[0].split("percent")[1]
    folder = tmp_path / "CVACT/SAFA_2_polar_1.figures"
    names = sorted(path.name for path in folder.iterdir())
    assert (
        len(names) == 6
        and {"contact_sheet.png", "similarities.png"} <= set(names)
        and sum(name.startswith("attention_001_") for name in names) == 1
    )
    for name in names:
        shape = cv2.imread(str(folder / name)).shape
        if name.startswith("attention"):  # images, parts and two embeddings; tile, polar map and panorama
            assert shape[0] > 4 * ROW and shape[1] == ROW + 2 * round(ROW * 4) + 4 * ATTENTION_GAP
        else:
            assert shape[1] == WIDTH if name.startswith("0") else shape[1] > 300
    again = succeeds("test_cvact.py", **given | {"result_dir": tmp_path / "other"}, figures=3, cwd=trained)
    other = tmp_path / "other/CVACT/SAFA_2_polar_1.figures"
    assert {path.name for path in other.iterdir()} == {name for name in names if not name.startswith("attention")}  # seeded
    assert "figures in" in again
    name = next(name for name in names if name.startswith("001_"))
    np.testing.assert_array_equal(cv2.imread(str(folder / name)), cv2.imread(str(other / name)))


def test_queries_are_named_or_only_wrong_ones(trained, tmp_path):
    given = {"network_type": "SAFA_2", "result_dir": tmp_path, "figures": 10}
    folder = tmp_path / "CVUSA/SAFA_2_polar_1.figures"
    order = [f"00000{number}" for number in (30, 27, 25, 26, 28, 29, 31, 32, 33, 34)]
    succeeds("test_cvusa.py", **given, queries=", ".join(order), save_descriptors=tmp_path / "d.npz", cwd=trained)
    stems = {f"{number:03}_{name}" for number, name in enumerate(order, 1)}
    assert {path.stem for path in folder.iterdir()} == stems | {"contact_sheet", "similarities"}
    saved = np.load(tmp_path / "d.npz")
    found = search(saved["sat_descriptors"], saved["grd_descriptors"], np.arange(10), top_k=SHOWN)
    seen = set()
    for number, name in enumerate(order, 1):
        row = saved["ids"].tolist().index(name)
        expected = [GREEN if winner == row else RED for winner in found.winners[row]]
        assert frames(cv2.imread(str(folder / f"{number:03}_{name}.png")), (112, 616)) == [*expected, BLUE]
        seen |= set(expected)
    assert seen == {GREEN, RED}
    succeeds("test_cvusa.py", **given, only_wrong=True, cwd=trained)
    wrong = set(saved["ids"][found.closer > 0].tolist())
    assert 0 < len(wrong) < 10 and {path.stem.partition("_")[2] for path in folder.glob("0*.png")} == wrong
    for flags, expected in (
        ({"queries": "0000099"}, "0000099"),
        ({"queries": "0000030", "figures": None}, "--figures"),
        ({"queries": "0000030,,"}, "--queries"),
        ({"only_wrong": True, "figures": None}, "--figures"),
        ({"queries": "0000030", "only_wrong": True}, "--only_wrong"),
        ({"figures": 0}, "--figures"),
        ({"attention": 2, "direction": "aerial_to_ground"}, "--attention"),
        ({"attention": 2, "search_heading": 4}, "--attention"),
    ):
        assert expected in complains("test_cvusa.py", **given | flags, cwd=trained)


def test_a_turned_query_is_shown_as_the_network_sees_it(towns):
    pairs = CVUSA(str(towns / "Data")).pairs("val")
    whole = cv2.imread(pairs.grd_paths[3])
    turned = PanoramaView(180, True).test_panoramas(len(pairs), 128, MEAN_BGR)
    task = task_of(pairs)
    picture = FigureSource(pairs, task, "ground_to_aerial", None, None, None, None, 128, turned).query(3)
    assert picture.shape == whole.shape and picture.dtype == np.uint8
    shift = round(turned.shifts[3] * whole.shape[1] / 128)
    half = whole.shape[1] // 2
    np.testing.assert_array_equal(picture[:, :half], np.roll(whole, shift, axis=1)[:, :half])
    np.testing.assert_array_equal(picture[:, half:], np.broadcast_to(np.rint(MEAN_BGR), picture[:, half:].shape))
    np.testing.assert_array_equal(FigureSource(pairs, task, "ground_to_aerial", None, None, None, None, 128).query(3), whole)


def test_a_polar_map_is_drawn_where_its_tile_is_missing_or_broken(own_towns):
    pairs = CVUSA(str(own_towns / "Data")).pairs("val")
    tested = FigureSource(pairs, task_of(pairs), "ground_to_aerial", None, None, None, None, 128)
    os.unlink(pairs.tile_paths[0])
    with open(pairs.tile_paths[1], "wb") as file:
        file.write(b"broken")
    cv2.imwrite(pairs.tile_paths[3], np.zeros((64, 80, 3), np.uint8))
    for row in 0, 1, 3:
        np.testing.assert_array_equal(tested.reference(row), cv2.imread(pairs.sat_paths[row]))
    np.testing.assert_array_equal(tested.reference(2), cv2.imread(pairs.tile_paths[2]))
    os.unlink(pairs.sat_paths[0])
    with pytest.raises(UserError, match="cannot be drawn"):
        tested.reference(0)


def test_figures_that_cannot_be_written_are_one_line_after_the_numbers(trained, tmp_path):
    (tmp_path / "CVUSA").mkdir()
    (tmp_path / "CVUSA/SAFA_2_polar_1.figures").write_text("in the way")
    process = run("test_cvusa.py", network_type="SAFA_2", result_dir=tmp_path, figures=2, cwd=trained)
    assert process.returncode == 2 and "recall" in process.stdout
    (line,) = process.stderr.strip().splitlines()
    assert "SAFA_2_polar_1.figures" in line and "stands in the way" in line
    assert json.loads((tmp_path / "CVUSA/SAFA_2_polar_1.json").read_text())["queries"] == 10


@pytest.fixture(scope="module")
def page(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    output = succeeds("test_cvact.py", network_type="SAFA_2", result_dir=folder, report=True, figures=2, cwd=trained)
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
    assert "95 % from" in text and 'name="viewport"' in text and "prefers-color-scheme" in text
    assert all('tabindex="0"' in tag for tag in re.findall(r'<(?:div class="wide"|pre)[^>]*>', text))  # scrolled by keys
    anchors = re.findall(r'href="#(\w+)"', text)
    assert anchors and all(f'id="{anchor}"' in text for anchor in anchors)


def test_the_recalls_of_a_page_have_their_intervals_and_the_published_ones_beside():
    shares = dict(zip(("1", "5", "10", "1%"), (0.5, 0.75, 0.9, 0.95), strict=True))
    result = {"recall": shares, "intervals": {"recall": {k: (value - 0.1, value + 0.05) for k, value in shares.items()}}}
    result |= {"tied_queries": 0, "rank": {"median": 1, "90%": 3}}
    result |= {"cost": {"parameters": 1e6, "gmac": 1.0, "descriptor": 512, "milliseconds": None}}
    section = recall_section(result, Published((89.84, 96.93, 98.14, 99.64), "the paper"))
    assert section.table.columns == ["percent", "R@1", "R@5", "R@10", "R@1%"]
    assert section.table.rows == [
        ["recall", "50.00", "75.00", "90.00", "95.00"],
        ["  95 % from", "40.00", "65.00", "80.00", "85.00"],
        ["  to", "55.00", "80.00", "95.00", "100.00"],
        ["published", "89.84", "96.93", "98.14", "99.64"],
    ]
    assert "published: the paper" in section.lines


def test_a_page_shows_a_few_of_many_queries_and_says_so():
    task = Task([str(row) for row in range(100)], np.arange(100), np.arange(100))
    tested = FigureSource(None, task, "ground_to_aerial", None, None, np.arange(100) % 2, None, 128)
    args = types.SimpleNamespace(queries=None, only_wrong=True)
    rows, note = shown_queries(args, tested, 40, 24)
    assert len(rows) == 24 and all(row % 2 for row in rows) and "wrong" in note and "24 of 40" in note
    args.queries, args.only_wrong = ["7", "3"], False
    assert shown_queries(args, tested, 1, 24) == ([7, 3], "Named.")
    args.queries, args.only_wrong = None, True
    right = FigureSource(None, task, "ground_to_aerial", None, None, np.zeros(100, int), None, 128)
    assert shown_queries(args, right, 4, 24) == ([], "No query is wrong.")


def test_other_pages_extend_the_template(tmp_path):
    (tmp_path / "other.html").write_text('{% extends "page.html" %}{% block end %}<p>{{ more }}</p>{% endblock %}')
    write_page(str(tmp_path / "a.html"), "t", "s", [Section("a", "A")], str(tmp_path / "other.html"), more="<&>")
    text = (tmp_path / "a.html").read_text()
    assert "<h2>A</h2>" in text and "<p>&lt;&amp;&gt;</p>" in text and "<style>" in text


def test_hostile_names_stay_text_on_a_page(tmp_path):
    bad = "<script>alert(1)</script>\"'&"
    table = Table([bad], [[bad]])
    path = str(tmp_path / "a.html")
    write_page(path, bad, bad, [Section("a", bad, bad, table, [bad], (), [(bad, bad)])])
    text = (tmp_path / "a.html").read_text()
    assert "<script" not in text and text.count("&lt;script&gt;") == 12


@needs_browser
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_the_whole_page_without_the_network(page, tmp_path, width):
    found = opened(page, tmp_path, width)
    assert found.pop("images") == found.pop("loaded") >= 8
    assert found == {"width": width, "requests": 0, "overflow": False, "errors": 0}


def test_suspicious_pairs_are_drawn(towns, tmp_path):
    pairs = CVUSA(str(towns / "Data")).pairs("train")
    some = Finding("mirrored pairs", "train", 2, "pairs look mirrored", examples=("0000003", "0000007"))
    whole = Finding("unlike", "train", 24, "pairs look no more like each other than strangers")
    note = Finding("ahead and behind", "train", 24, "pairs look alike ahead and behind", problem=False)
    check_data.draw_suspicious(pairs, [some, whole, note], str(tmp_path))
    sheet = cv2.imread(str(tmp_path / "suspicious_train.png"))
    cards = 2 + check_data.DRAWN  # the whole split's first ones
    assert sheet.shape[0] > -(-cards // 4) * 350 and sheet.shape[1] > 4 * 400
    check_data.draw_suspicious(pairs, [note], str(tmp_path / "none"))
    assert not (tmp_path / "none").exists()
    assert "--figures" in complains("check_data.py", dataset="cvusa", figures=tmp_path, quick=True, cwd=towns)
    assert "too few" in succeeds("check_data.py", dataset="cvusa", figures=tmp_path, cwd=towns)


def test_suspicious_pairs_that_cannot_be_drawn_are_a_line_after_the_findings(towns, tmp_path, monkeypatch, capsys):
    def unlike(pairs, colours):
        return [Finding("unlike", pairs.split, len(pairs), "pairs look no more like each other than strangers")]

    monkeypatch.setattr(check_data, "orientation", unlike)
    (tmp_path / "suspicious_train.png").mkdir()
    words = ["--dataset", "cvusa", "--data_dir", str(towns / "Data"), "--workers", "1"]
    words += ["--figures", str(tmp_path), "--json", str(tmp_path / "found.json")]
    monkeypatch.setattr("sys.argv", ["check_data.py", *words])
    with pytest.raises(OSError):
        check_data.main()
    assert "PROBLEM  train: 24 pairs look no more like" in capsys.readouterr().out
    assert json.loads((tmp_path / "found.json").read_text())["problems"] == 2
    (tmp_path / "suspicious_train.png").rmdir()
    assert check_data.main() == 1 and "12 suspicious pairs" in capsys.readouterr().out
    assert {"suspicious_train.png", "suspicious_val.png"} <= {path.name for path in tmp_path.iterdir()}


def test_a_card_of_a_pair_says_what_cannot_be_read(towns, tmp_path):
    tile = str(towns / "Data/CVUSA/bingmap/19/0000001.jpg")
    panorama = str(towns / "Data/CVUSA/streetview/panos/0000001.jpg")
    whole = pair_card("1", "looks mirrored", tile, panorama)
    broken = pair_card("1", "looks mirrored", tile, str(tmp_path / "none.jpg"))
    assert whole.shape == broken.shape and (whole != broken).any() and (broken[-20:] == 255).all()
    cv2.imwrite(str(tmp_path / "wide.png"), np.zeros((64, 80, 3), np.uint8))
    assert pair_card("1", "looks mirrored", str(tmp_path / "wide.png"), panorama).shape == whole.shape


def test_tensorboard_shows_the_same_queries_after_epochs(towns, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    os.symlink(towns / "Data", tmp_path / "Data")
    succeeds("train_cvusa.py", **SMALL, network_type="SAFA_1", epochs=3, figures_every=2, cwd=tmp_path)
    events = EventAccumulator(str(tmp_path / "Model/CVUSA/SAFA_1/polar_1/tensorboard"))
    events.Reload()
    (event,) = events.Tensors("validation")  # of epoch 2 alone
    picture = cv2.imdecode(np.frombuffer(event.tensor_proto.string_val[2], np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape[1] > WIDTH and event.step == 2 * 24 // SMALL["batch_size"]
