"""Ranks and recalls are the published code's, and a collapsed network does not look perfect."""
import numpy as np
import pytest
from golden_numbers import GOLDEN

import recall
from recall import one_percent, ranks, recall_at, recall_curve, reported_recalls, within

NUMBERS = np.load(GOLDEN / "recall.npz")


@pytest.mark.parametrize("block_bytes", [recall.BLOCK_BYTES, 500 * 4 * 7])
def test_ranks_and_recalls_equal_the_golden_ones_whatever_the_block(block_bytes, monkeypatch):
    monkeypatch.setattr(recall, "BLOCK_BYTES", block_bytes)
    closer, tied = ranks(NUMBERS["sat_descriptors"], NUMBERS["grd_descriptors"])
    np.testing.assert_array_equal(closer, NUMBERS["rank_of_truth"])
    assert not tied.any()
    np.testing.assert_array_equal(recall_curve(closer, 100), NUMBERS["recall_at"][1:])
    np.testing.assert_array_equal([recall_at(closer, k) for k in range(101)], NUMBERS["recall_at"])


@pytest.mark.parametrize("value", [0.0, 0.125, 1 / 3])
def test_a_collapsed_network_is_perfect_by_ties_only(value):
    same = np.full((300, 64), value, np.float32)
    closer, tied = ranks(same, same)
    assert recall_at(closer, 1) > 0.5 and (closer + tied == 299).all()


def test_descriptors_that_are_not_finite_are_an_error():
    broken = np.ones((3, 2), np.float32)
    broken[1, 1] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        ranks(broken, np.ones((3, 2), np.float32))


def test_a_match_within_5_metres_of_the_truth_counts_when_asked():
    random = np.random.default_rng(0)
    sat, grd = (random.standard_normal((2, 60, 8)).astype(np.float32))
    utm = np.array([693000.0, 6090000.0]) + random.uniform(0, 40, (60, 2))
    near = within(utm, 5.0)
    closer, _ = ranks(sat, grd, near)
    similarity = grd @ sat.T
    for query in range(60):
        hits = [row for row in range(60) if np.hypot(*(utm[row] - utm[query])) <= 5]
        assert sorted(near[query]) == hits and query in hits
        order = np.argsort(-similarity[query])
        assert closer[query] == min(np.flatnonzero(np.isin(order, hits)))
    assert (closer <= ranks(sat, grd)[0]).all() and (closer < ranks(sat, grd)[0]).any()


def test_one_percent_is_rounded_down_and_never_nothing():
    assert [one_percent(n) for n in (8884, 100, 200, 199, 99, 1)] == [88, 1, 2, 1, 1, 1]
    assert reported_recalls(np.zeros(20, int)) == {"1": 1, "5": 1, "10": 1, "1%": 1}
