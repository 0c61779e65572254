"""Searches give the published code's ranks and recalls; and what is reported of them: turns, intervals, metres, directions."""

from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import scipy.spatial
import tensorflow as tf
from conftest import ROOT, refuses, succeeds, unit
from golden import GOLDEN

from recall import one_percent, recall_at, recall_curve, reported_recalls
from safa.datasets.dataset import Pairs
from safa.datasets.positions import count_within, within
from safa.report.result_file import pack, unpack
from safa.retrieval import search as search_module
from safa.retrieval.confidence import paired_difference, recall_interval
from safa.retrieval.evaluation import evaluate
from safa.retrieval.search import search
from safa.retrieval.task import AERIAL_TO_GROUND, task_of

NUMBERS = np.load(GOLDEN / "recall.npz")


def evaluated(references, queries, task, degrees_off=None):
    return evaluate(task, search(references, queries, task.truth, task.near, top_k=1), degrees_off)


CITY = SimpleNamespace(name="CVACT", hit_metres=None)  # what a task asks of a dataset


def places(count, utm=None, truth=None, references=None):
    names = [str(row) for row in range(count)]
    tiles = [f"{row}.png" for row in range(references or count)]
    return Pairs(CITY, "val", "polar", names, tiles, names, tiles, utm, truth)


def test_places_within_a_distance_are_those_of_brute_force():
    random = np.random.default_rng(0)
    utm = np.array([693000.0, 6090000.0]) + random.uniform(0, 200, (2000, 2))
    utm[1000:1200] = utm[:200]  # the same place twice
    utm[1200:1400] = utm[200:400] + (3.0, 4.0)  # exactly 5 m away, but for rounding in the millions
    for given, slack in (utm, 1e-8), (np.round(utm), 0):  # whole metres are exact: a tie counts
        for found, distances in zip(within(given, 5.0), scipy.spatial.distance.cdist(given, given), strict=True):
            certain, possible = (set(np.flatnonzero(distances <= limit)) for limit in (5 - slack, 5 + slack))
            assert certain <= set(found.tolist()) <= possible
    utm = random.uniform(0, 100, (5000, 2))  # a radius that holds too many is refused before they take the memory
    assert sum(map(len, task_of(places(5000, utm), radius=5.0).near)) == count_within(utm, 5.0, utm)
    refuses("--radius 1e.06: .* 25,000,000 references", task_of, places(5000, utm), radius=1e6)


def test_metres_and_ranks_of_a_test():
    utm = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 30.0], [0.0, 300.0]])
    references = np.eye(4, dtype=np.float32)
    queries = references[[1, 1, 2, 0]]  # the first query finds a place 5 m off, the last one 300 m
    result = evaluated(references, queries, task_of(places(4, utm), radius=5.0))
    assert result["recall"]["1"] == 0.5 and result["recall_within_5m"]["1"] == 0.75
    assert result["metres"] == {"median": 2.5, "within": {"5": 0.75, "25": 0.75, "100": 0.75}}
    assert result["ranks"]["first_match"].tolist() == [1, 1, 2, 0]
    assert result["ranks"]["exact"].tolist() == [1, 0, 0, 1] and result["rank"] == {"median": 1.5, "90%": 2.0}
    assert result["ranks"]["within_5m"].tolist() == [0, 0, 0, 1] and result["recall_curve"] == [0.5]
    assert result["intervals"]["recall_within_5m"]["1"] == recall_interval(0.75, 4)
    assert evaluated(references, queries, task_of(places(4, utm)))["recall"] == result["recall"]
    # From the reference that was found, also where queries are fewer.
    utm = np.array([[0.0, 0.0], [1000.0, 0.0], [0.0, 7.0], [1000.0, 90.0]])
    result = evaluated(references, references[:2], task_of(places(2, utm, truth=np.array([2, 3]), references=4)))
    assert result["metres"] == {"median": 48.5, "within": {"5": 0, "25": 0.5, "100": 1}}


def test_in_the_other_direction_each_panorama_of_a_tile_is_right():
    truth = np.array([2, 0, 2, 1])
    task = task_of(places(4, truth=truth, references=5), AERIAL_TO_GROUND)
    assert set(task.queries.tolist()) == {0, 1, 2}  # tiles without a panorama are not searched for
    grd, sat = np.eye(4, dtype=np.float32), np.zeros((5, 4), np.float32)
    sat[0, 1] = sat[1, 3] = sat[2, 2] = 1
    result = evaluated(grd, sat[task.queries], task)
    assert result.get("recall_acceptable", result["recall"])["1"] == 1


def test_the_heading_that_a_query_was_found_with():
    references = np.eye(6, dtype=np.float32)
    queries = np.stack([references, 0.5 * references], axis=1)  # the first turn is the closest to the truth
    queries[4:] = queries[4:, ::-1]  # of the last two queries the second
    headings = np.array([[0.0, 90.0], [11.0, 0], [12.0, 0], [-350.0, 0], [0, 348.0], [0, 180.0]])
    result = evaluated(references, queries, task_of(places(6)), headings)
    assert result["heading_right"] == 3 / 6  # off by 0, 11 and 10 degrees


def test_intervals_cover_the_truth_as_often_as_they_say_also_near_100_percent():
    random = np.random.default_rng(0)
    for recall, count in ((0.98, 200), (0.9, 1000), (0.02, 2000)):
        intervals = np.array([recall_interval(found / count, count) for found in random.binomial(count, recall, 1000)])
        covered = np.mean((intervals[:, 0] <= recall) & (recall <= intervals[:, 1]))
        assert 0.92 <= covered <= 0.98, (recall, covered)  # a bootstrap's: 0.91 at 98 % of 200
    assert recall_interval(0.995, 200) == pytest.approx((0.9722, 0.9991), abs=1e-4)  # none but that of 100 % ends there
    assert recall_interval(1.0, 200)[1] == 1 and recall_interval(1.0, 200)[0] == pytest.approx(0.9812, abs=1e-4)
    assert recall_interval(0.0, 50)[0] == 0 and recall_interval(0.0, 50)[1] == pytest.approx(0.0713, abs=1e-4)


def test_paired_differences_cover_the_truth_and_see_more_than_unpaired_ones():
    random, covered = np.random.default_rng(0), 0
    for _ in range(500):
        first = random.random(800) < 0.6
        found = paired_difference(first, first ^ (random.random(800) < 0.05))  # changes 5 % of the answers
        covered += found.low <= -0.01 <= found.high  # 0.4 * 0.05 - 0.6 * 0.05
    assert 0.92 <= covered / 500 <= 0.98
    first, second = np.arange(1000) < 600, np.arange(1000) < 620
    found = paired_difference(first, second)
    assert (found.difference, found.only_first, found.only_second) == (pytest.approx(0.02), 0, 20)
    assert found.differs and found.low > 0 and found.p_value == pytest.approx(2 * 0.5**20)
    assert recall_interval(0.6, 1000)[1] > recall_interval(0.62, 1000)[0]
    assert paired_difference(first, first).p_value == 1
    chance = paired_difference(np.arange(100) < 50, np.arange(100) < 54)
    assert not chance.differs and chance.p_value == 0.125


def test_packed_ranks_come_back_and_others_are_refused():
    ranks = np.random.default_rng(0).integers(0, 92802, 1000)
    np.testing.assert_array_equal(unpack(pack(ranks), 1000), ranks)
    for text, count in (pack(ranks), 999), (pack(ranks), 1001), ("!", 1), (pack(np.zeros(10**6)), 10):
        with pytest.raises(ValueError):
            unpack(text, count)


def ranks(sat, grd, **options):
    """Of pairs: rank, and number of ties."""
    found = search(sat, grd, np.arange(len(grd)), **options)
    return found.closer, found.tied


@pytest.mark.parametrize("block_bytes", [search_module.BLOCK_BYTES, 500 * 4 * 7])
def test_ranks_and_recalls_equal_the_golden_ones_whatever_the_block_also_with_products_of_a_device(block_bytes, monkeypatch):
    monkeypatch.setattr(search_module, "BLOCK_BYTES", block_bytes)
    sat, grd = NUMBERS["sat_descriptors"], NUMBERS["grd_descriptors"]
    for options in {}, {"device": "CPU:0"}, {"device": "TPU:0"}:
        closer, tied = ranks(sat, grd, **options)
        np.testing.assert_array_equal(closer, NUMBERS["rank_of_truth"])
        assert options or not tied.any()
    np.testing.assert_array_equal(recall_curve(closer, 100), NUMBERS["recall_at"][1:])
    np.testing.assert_array_equal([recall_at(closer, k) for k in range(101)], NUMBERS["recall_at"])


@pytest.mark.parametrize("function", ["cast", "matmul"])  # of the references' copy, and of the products
def test_numpy_searches_where_a_device_s_memory_does_not_suffice(function, monkeypatch):
    sat, grd = NUMBERS["sat_descriptors"], NUMBERS["grd_descriptors"]
    too_large = Mock(side_effect=tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor"))
    monkeypatch.setattr(tf, function, too_large)
    np.testing.assert_array_equal(ranks(sat, grd, device="CPU:0")[0], NUMBERS["rank_of_truth"])
    assert too_large.called


@pytest.mark.parametrize("spread", [1e-8, 1e-6, 1e-4])
def test_references_that_nearly_tie_are_ranked_as_published(spread):
    random = np.random.default_rng(0)
    centre = np.abs(random.standard_normal(2048))
    sat, grd = (unit(centre + spread * random.standard_normal((200, 2048))) for _ in range(2))
    closer, tied = ranks(sat, grd)
    published = 2 - 2 * (grd.astype(np.float64) @ sat.astype(np.float64).T)  # of float32 descriptors, in float64
    np.testing.assert_array_equal(closer, (published < np.diagonal(published)[:, None]).sum(axis=1))
    assert spread == 1e-4 or (closer + tied == 199).all()


def test_a_reference_that_is_listed_twice_is_not_closer_than_itself_and_a_collapsed_network_perfect_by_ties_only():
    random = np.random.default_rng(0)
    sat = unit(random.standard_normal((600, 512)))
    grd = unit(sat + 0.02 * random.standard_normal(sat.shape))
    sat[100:300], grd[100:300] = sat[300:500], grd[300:500]
    closer, tied = ranks(sat, grd)
    assert not closer.any() and tied.sum() == 400
    for row in np.zeros(64), np.full(64, 1 / 3), sat[0]:
        same = np.tile(row.astype(np.float32), (300, 1))
        closer, tied = ranks(same, same)
        assert not closer.any() and (tied == 299).all()
        result = evaluated(same, same, task_of(places(300)))
        assert (result["recall"]["1"], result["pessimistic_recall"]["1"], result["tied_queries"]) == (1, 0, 300)
    # One percent is rounded down, and never nothing.
    assert [one_percent(n) for n in (8884, 100, 200, 199, 99, 1)] == [88, 1, 2, 1, 1, 1]
    assert reported_recalls(np.zeros(20, int), 20) == {"1": 1, "5": 1, "10": 1, "1%": 1}
    assert reported_recalls(np.full(20, 7), 1000)["1%"] == 1 and reported_recalls(np.full(20, 7), 700)["1%"] == 0


@pytest.mark.parametrize("turns", [1, 3])
@pytest.mark.parametrize("block_bytes", [search_module.BLOCK_BYTES, 2000 * 4 * 300])
def test_one_pass_gives_ranks_hits_and_winners_of_the_closest_of_each_querys_turns(turns, block_bytes, monkeypatch):
    monkeypatch.setattr(search_module, "BLOCK_BYTES", block_bytes)
    random = np.random.default_rng(0)
    references = unit(random.standard_normal((2000, 16)))
    references[1500:1600] = references[:100]  # places that look alike
    utm = np.array([693000.0, 6090000.0]) + random.uniform(0, 100, (2000, 2))
    truth = random.integers(0, 2000, 700)
    queries = unit(references[truth][:, None] + 0.5 * random.standard_normal((700, turns, 16)))
    of_places = within(utm, 5.0)
    near = [of_places[row] for row in truth]
    found = search(references, queries[:, 0] if turns == 1 else queries, truth, near, top_k=7)
    of_turns = np.einsum("qtd,nd->qtn", queries.astype(np.float64), references.astype(np.float64))
    exact = of_turns.max(axis=1)
    true = exact[np.arange(700), truth][:, None]
    assert turns == 1 or np.array_equal(found.turn, of_turns[np.arange(700), :, truth].argmax(axis=1))
    np.testing.assert_allclose(found.similarity, true[:, 0], atol=1e-12)
    np.testing.assert_array_equal(found.closer, (exact > true + 1e-12).sum(axis=1))
    np.testing.assert_array_equal(found.tied, (np.abs(exact - true) < 1e-7).sum(axis=1) - 1)
    best = np.array([exact[query, rows].max() for query, rows in enumerate(near)])[:, None]
    np.testing.assert_array_equal(found.near_closer, (exact > best + 1e-12).sum(axis=1))
    assert (found.near_closer < found.closer).any() and found.tied.sum() >= 30
    np.testing.assert_allclose(found.similarities, -np.sort(-exact, axis=1)[:, :7], atol=1e-12)
    np.testing.assert_allclose(np.take_along_axis(exact, found.winners, axis=1), found.similarities, atol=1e-12)
    assert all(len(set(row)) == 7 for row in found.winners.tolist())
    assert search(references[:5], queries[:3, 0], [0, 1, 2], top_k=9).winners.shape == (3, 5)


def test_the_benchmark_of_ranks_runs():
    assert "matrix products alone" in succeeds("benchmarks.ranking", pairs=50, dimension=8, near=True, cwd=ROOT)


def test_descriptors_that_are_not_finite_and_truths_that_name_no_reference_are_errors():
    whole, broken = np.eye(5, dtype=np.float32), np.eye(5, dtype=np.float32)
    broken[1, 0] = np.nan
    mistakes = (broken, [0, 1, 2], "finite"), (whole, [0, 1, 5], "truth"), (whole, [0, 1], "truth")
    for references, truth, expected in mistakes:
        with pytest.raises(ValueError, match=expected):
            search(references, whole[:3], truth)
