"""From descriptors to places: search, merging, drives, calibration, and what panoramas look like to the network."""

import itertools
import json
import re
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from conftest import refuses, unit
from scipy.spatial import cKDTree
from scipy.special import expit

from safa.localization.answers import as_csv, as_geojson, as_json
from safa.localization.calibration import fit_calibration, read_calibrations, write_calibrations
from safa.localization.drive import LOST, smoothed
from safa.localization.panorama import Panorama, read_canvas, turned
from safa.localization.places import Answer, Place, QueryConfig, distinct_places, margin_of
from safa.localization.tile_search import ApproximateSearch, as_float32, fit_projection, similarities, write_approximate
from VGG import MEAN_BGR

RNG = np.random.default_rng(0)


def test_similarities_are_the_best_turns_products_whatever_the_blocks_and_types(monkeypatch):
    for dtype, turns, block_bytes in itertools.product(("float16", "float32"), (1, 3, 5), (4 * 16 * 10, 2**26)):
        descriptors, queries = unit(RNG.standard_normal((101, 16))).astype(dtype), unit(RNG.standard_normal((5, turns, 16)))
        products = np.einsum("qtd,nd->qtn", queries, descriptors.astype(np.float32))
        monkeypatch.setattr("safa.localization.tile_search.BLOCK_BYTES", block_bytes)
        found, turn = similarities(descriptors, queries)
        np.testing.assert_allclose(found, products.max(axis=1), atol=1e-6)
        np.testing.assert_array_equal(turn, products.argmax(axis=1))
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)  # every finite one becomes the same float32
    halves = halves[np.isfinite(halves)][None]
    np.testing.assert_array_equal(as_float32(halves).view(np.uint32), halves.astype(np.float32).view(np.uint32))
    descriptors = unit(RNG.standard_normal((300, 5)) @ RNG.standard_normal((5, 32)))  # a projection to 5 loses nothing
    projected = descriptors @ fit_projection(descriptors, 5)
    np.testing.assert_allclose(projected @ projected.T, descriptors @ descriptors.T, atol=1e-5)


def test_an_approximate_search_finds_the_neighbours_of_clustered_descriptors_and_compares_them_exactly(tmp_path):
    centres = unit(RNG.standard_normal((40, 16)))
    descriptors = unit(centres[RNG.integers(40, size=3000)] + 0.05 * RNG.standard_normal((3000, 16)))
    path = str(tmp_path / "approximate.faiss")
    write_approximate(path, descriptors)
    queries = unit(descriptors[::100] + 0.01 * RNG.standard_normal((30, 16)))[:, None]
    found, _ = ApproximateSearch(path, descriptors).similarities(queries)
    exact, _ = similarities(descriptors, queries)
    known = found > -np.inf
    np.testing.assert_allclose(found[known], exact[known], atol=1e-6)
    assert np.mean(found.argmax(axis=1) == exact.argmax(axis=1)) > 0.95
    refuses("of other descriptors", ApproximateSearch, path, descriptors[:-1])
    (tmp_path / "broken").write_bytes(b"IwFl nothing")
    refuses("cannot be read", ApproximateSearch, str(tmp_path / "broken"), descriptors)


def test_places_closer_than_the_merging_distance_are_one():
    tree = cKDTree([(0, 0), (10, 0), (20, 0), (100, 0), (110, 0), (500, 0)])
    scores = np.array([0.8, 0.9, 0.7, 0.85, 0.1, 0.6], np.float32)
    places = distinct_places(scores, tree, 5, 15)
    assert [row for row, _ in places] == [1, 3, 5] and sorted(places[0][1].tolist()) == [0, 1, 2]
    assert [row for row, _ in distinct_places(scores, tree, 5, 0)] == [1, 3, 0, 2, 5]
    assert [margin_of(scores, tree, 1, metres) for metres in (25, 1000)] == pytest.approx([0.05, np.inf])


def test_a_drive_is_smoothed_as_if_all_paths_were_weighed():
    metres = RNG.uniform(0, 60, (9, 2))
    candidates = [RNG.permutation(9)[:3] for _ in range(4)]
    values = [RNG.uniform(0, 6, 3) for _ in range(4)]
    posterior = smoothed(candidates, values, metres, [10, 10, 10], 5)
    deviation, weights = 10, {}  # half a step's length, at least 5 m, and the tolerance
    for path in itertools.product(range(3), repeat=4):
        rows = [own[place] for own, place in zip(candidates, path, strict=True)]
        weight = np.exp(sum(own[place] for own, place in zip(values, path, strict=True)))
        for before, after in itertools.pairwise(rows):
            length = np.linalg.norm(metres[before] - metres[after])
            weight *= np.exp(-0.5 * (max(length - 10, 0) / deviation) ** 2) + LOST
        weights[path] = weight
    for step in range(4):
        expected = [sum(weight for path, weight in weights.items() if path[step] == place) for place in range(3)]
        np.testing.assert_allclose(posterior[step], np.array(expected) / sum(weights.values()), atol=1e-9)


def simulated(count, seed):
    """Answers that are right with a known probability of their margin and similarity."""
    rng = np.random.default_rng(seed)
    margins, similar = rng.exponential(0.08, count), rng.uniform(0.4, 0.95, count)
    chance = expit(40 * margins + 4 * similar - 4)
    return margins, similar, rng.random(count) < chance, chance


def test_confidence_is_the_probability_of_being_right_and_a_threshold_keeps_the_share_of_wrong_answers():
    calibration = fit_calibration(*simulated(4000, 1)[:3], 0.05)
    margins, similar, _, chance = simulated(300, 2)
    confidence = [calibration.confidence(*each) for each in zip(margins, similar, strict=True)]
    assert np.abs(confidence - chance).max() < 0.08
    shares = []
    for seed in range(40):
        calibration = fit_calibration(*simulated(300, seed)[:3], 0.1)
        assert (calibration.wrong + 1) / (calibration.answered + 1) <= 0.1
        margins, similar, right, _ = simulated(1000, 1000 + seed)
        given = [calibration.confidence(*each) >= calibration.threshold for each in zip(margins, similar, strict=True)]
        assert any(given)
        shares.append(1 - np.mean(right[given]))
    assert 0.06 < np.mean(shares) < 0.12
    hopeless = fit_calibration(np.full(30, 0.1), np.full(30, 0.5), np.zeros(30, bool), 0.05)
    assert not hopeless.answered and hopeless.confidence(1, 1) < hopeless.threshold


def test_calibrations_are_kept_by_their_view(tmp_path):
    path = str(tmp_path / "calibration.json")
    assert read_calibrations(path, "i") == {}
    calibrations = {name: fit_calibration(*simulated(100, seed)[:3], 0.1) for seed, name in enumerate("ab")}
    write_calibrations(path, "i", calibrations)
    assert read_calibrations(path, "i") == calibrations
    flipped = re.sub(r'("threshold": 0\.\d*)\d', r"\g<1>", (tmp_path / "calibration.json").read_text(), count=1)
    for text in flipped, '{"a": {"weights": [1, 2]}}', '{"a": {"weights": [1,2,3], "threshold": NaN}}', "{":
        (tmp_path / "calibration.json").write_text(text)
        refuses("calibrate again", read_calibrations, path, "i")


def canvas_of(folder, image, input_vertical_fov, **view):
    cv2.imwrite(str(folder / "p.png"), image)
    return read_canvas(Panorama(str(folder / "p.png"), 0.0, "given"), QueryConfig(**view), input_vertical_fov, MEAN_BGR)


def test_a_known_heading_turns_north_into_the_middle(tmp_path):
    for heading, (height, width) in itertools.product((0, 45, 300), ((112, 616), (500, 1000))):
        image, north = np.zeros((height, width, 3), np.uint8), round(width / 2 - heading / 360 * width) % width
        image[:, [north - 1, north, (north + 1) % width]] = 250
        image = turned(canvas_of(tmp_path, image, 65.45), heading, (112, 616))
        assert abs(int(image.sum(axis=(0, 2)).argmax()) - 308) <= 3


def test_a_sphere_is_cut_around_the_horizon_and_a_part_of_the_circle_lies_in_the_middle_of_the_mean_colour(tmp_path):
    image = np.repeat(np.arange(180, dtype=np.uint8)[:, None, None], 360, axis=1) + np.zeros(3, np.uint8)
    canvas = canvas_of(tmp_path, image, 90.0)
    assert canvas.dtype == np.uint8 and abs(canvas[0].mean() - 45) < 2 and abs(canvas[-1].mean() - 134) < 2
    assert abs(canvas_of(tmp_path, image, 90.0, horizon=0.4)[0].mean() - 27) < 2
    canvas = canvas_of(tmp_path, image, 90.0, vertical_fov=60.0)  # it shows too little: the mean colour fills up
    np.testing.assert_allclose(canvas[[0, -1], 0], [MEAN_BGR, MEAN_BGR], rtol=1e-6)
    assert abs(canvas[56].mean() - 90) < 2
    canvas = canvas_of(tmp_path, np.full((112, 154, 3), 200, np.uint8), 65.45, fov=90.0)
    assert (canvas[56, 231:385] == 200).all() and (canvas[56, :230] == np.float32(MEAN_BGR)).all()
    image = turned(canvas, 90, (112, 616))  # its centre looks east: a quarter of the circle to the right
    assert (image[56, 385:539] == 200).all()


def test_answers_are_valid_geojson_json_and_csv():
    place = Place(149.123456789, -35.987654321, 0.9, 45.0, 'a "tile", of\nlines', 3, 2)
    answers = [
        Answer(Panorama("p,1.jpg", 45.0, "given"), [place, place], np.inf),
        Answer(Panorama("p2.jpg", None, "unknown", (149.123456789, -35.9877)), [place], 0.1, 0.5, False),
    ]
    found = json.loads(as_geojson(answers))
    assert found["type"] == "FeatureCollection" and len(found["features"]) == 3
    assert found["features"][2]["geometry"] == {"type": "Point", "coordinates": [149.12345679, -35.98765432]}
    assert found["features"][2]["properties"]["known"] is False
    manifest = SimpleNamespace(tiles=10, recipe=SimpleNamespace(weights="abc"))
    answers_json = json.loads(as_json(answers, manifest))["answers"]
    assert answers_json[0]["margin"] is None and answers_json[1]["metres_off"] == pytest.approx(5.068, abs=0.001)
    assert len(as_csv(answers).splitlines()) == 7  # a header, and three rows of a tile's name of two lines
