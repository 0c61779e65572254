"""Searches give the published code's ranks and recalls, and a collapsed network does not look perfect."""

import numpy as np
import pytest
from golden_numbers import GOLDEN

from recall import one_percent, recall_at, recall_curve, reported_recalls
from safa.datasets.positions import within
from safa.retrieval import search as search_module
from safa.retrieval.search import search

NUMBERS = np.load(GOLDEN / "recall.npz")


def ranks(sat, grd):
    """Of pairs: rank, and number of ties."""
    found = search(sat, grd, np.arange(len(grd)))
    return found.closer, found.tied


@pytest.mark.parametrize("block_bytes", [search_module.BLOCK_BYTES, 500 * 4 * 7])
def test_ranks_and_recalls_equal_the_golden_ones_whatever_the_block(block_bytes, monkeypatch):
    monkeypatch.setattr(search_module, "BLOCK_BYTES", block_bytes)
    closer, tied = ranks(NUMBERS["sat_descriptors"], NUMBERS["grd_descriptors"])
    np.testing.assert_array_equal(closer, NUMBERS["rank_of_truth"])
    assert not tied.any()
    np.testing.assert_array_equal(recall_curve(closer, 100), NUMBERS["recall_at"][1:])
    np.testing.assert_array_equal([recall_at(closer, k) for k in range(101)], NUMBERS["recall_at"])


def published_ranks(sat, grd):
    """The published code's: distances of float32 descriptors in float64."""
    distances = 2 - 2 * (grd.astype(np.float64) @ sat.astype(np.float64).T)
    return (distances < np.diagonal(distances)[:, None]).sum(axis=1)


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("spread", [1e-8, 1e-6, 1e-4])
def test_references_that_nearly_tie_are_ranked_as_published(spread):
    random = np.random.default_rng(0)
    centre = np.abs(random.standard_normal(2048))
    sat, grd = (unit(centre + spread * random.standard_normal((200, 2048))) for _ in range(2))
    closer, tied = ranks(sat, grd)
    np.testing.assert_array_equal(closer, published_ranks(sat, grd))
    assert spread == 1e-4 or (closer + tied == 199).all()


def test_a_reference_that_is_listed_twice_is_not_closer_than_itself():
    random = np.random.default_rng(0)
    sat = unit(random.standard_normal((600, 512)))
    grd = unit(sat + 0.02 * random.standard_normal(sat.shape))
    sat[100:300], grd[100:300] = sat[300:500], grd[300:500]
    closer, tied = ranks(sat, grd)
    assert not closer.any() and tied.sum() == 400


@pytest.mark.parametrize("row", [np.zeros(64), np.full(64, 1 / 3), unit(np.random.default_rng(0).standard_normal((1, 500)))[0]])
def test_a_collapsed_network_is_perfect_by_ties_only(row):
    same = np.tile(row.astype(np.float32), (300, 1))
    closer, tied = ranks(same, same)
    assert not closer.any() and (tied == 299).all()


def test_one_percent_is_rounded_down_and_never_nothing():
    assert [one_percent(n) for n in (8884, 100, 200, 199, 99, 1)] == [88, 1, 2, 1, 1, 1]
    assert reported_recalls(np.zeros(20, int), 20) == {"1": 1, "5": 1, "10": 1, "1%": 1}
    assert reported_recalls(np.full(20, 7), 1000)["1%"] == 1 and reported_recalls(np.full(20, 7), 700)["1%"] == 0


@pytest.mark.parametrize("block_bytes", [search_module.BLOCK_BYTES, 2000 * 4 * 300])
def test_one_pass_over_other_queries_than_references_gives_ranks_hits_and_winners(block_bytes, monkeypatch):
    monkeypatch.setattr(search_module, "BLOCK_BYTES", block_bytes)
    random = np.random.default_rng(0)
    references = unit(random.standard_normal((2000, 16)))
    references[1500:1600] = references[:100]  # places that look alike
    utm = np.array([693000.0, 6090000.0]) + random.uniform(0, 100, (2000, 2))
    truth = random.integers(0, 2000, 700)
    queries = unit(references[truth] + 0.5 * random.standard_normal((700, 16)))
    of_places = within(utm, 5.0)
    near = [of_places[row] for row in truth]
    found = search(references, queries, truth, near, top_k=7)
    exact = queries.astype(np.float64) @ references.astype(np.float64).T
    true = exact[np.arange(700), truth][:, None]
    np.testing.assert_allclose(found.similarity, true[:, 0], atol=1e-12)
    np.testing.assert_array_equal(found.closer, (exact > true + 1e-12).sum(axis=1))
    np.testing.assert_array_equal(found.tied, (np.abs(exact - true) < 1e-7).sum(axis=1) - 1)
    best = np.array([exact[query, rows].max() for query, rows in enumerate(near)])[:, None]
    np.testing.assert_array_equal(found.near_closer, (exact > best + 1e-12).sum(axis=1))
    assert (found.near_closer < found.closer).any() and found.tied.sum() >= 30
    np.testing.assert_allclose(found.similarities, -np.sort(-exact, axis=1)[:, :7], atol=1e-12)
    np.testing.assert_allclose(np.take_along_axis(exact, found.winners, axis=1), found.similarities, atol=1e-12)
    assert all(len(set(row)) == 7 for row in found.winners.tolist())
    assert search(references[:5], queries[:3], [0, 1, 2], top_k=9).winners.shape == (3, 5)


@pytest.mark.parametrize(
    "value, truth, expected", [(np.nan, [0, 1, 2], "finite"), (0, [0, 1, 5], "truth"), (0, [0, 1], "truth")]
)
def test_descriptors_that_are_not_finite_and_truths_that_name_no_reference_are_errors(value, truth, expected):
    references = np.eye(5, dtype=np.float32)
    references[1, 0] = value
    with pytest.raises(ValueError, match=expected):
        search(references, np.eye(5, dtype=np.float32)[:3], truth)
