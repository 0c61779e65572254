"""Recalls of a network's descriptors, and how sure they are (paper, section 4.1)."""

import numpy as np

from recall import one_percent, recall_curve, reported_k, reported_recalls
from safa.retrieval.confidence import recall_interval
from safa.retrieval.search import best_turns, search

METRES = (5.0, 25.0, 100.0)  # shares of first matches within these are reported
HEADING_DEGREES = 11.25  # DSM's bound: 2 of its 64 columns


def recalls(references, queries, task, multiply=None):
    """The recalls of a search, for a validation.

    Args:
        references: (N, D) float32 descriptors.
        queries: (Q, D) float32, or (Q, T, D) where a query has T descriptors, of which the closest counts.
        task: retrieval.task.Task.
        multiply: as of `search`.

    Returns:
        {"queries": Q, "references": N, "recall": {"1", "5", "10", "1%"}, "tied_queries": number of queries whose truth
        shares its distance with another reference, "pessimistic_recall": as "recall", with every tied reference before the
        truth}. Recalls are fractions. Where the task counts further references as hits, also "recall_within_5m" or
        "recall_acceptable", as "recall".
    """
    return _recalls(_searched(references, queries, task, multiply), len(references), task)


def evaluate(references, queries, task, multiply=None, headings=None):
    """All that is reported of a test.

    Args:
        references, queries, task, multiply: as of `recalls`.
        headings: (Q, T) float64 degrees by which the heading that each of a query's descriptors assumes is off; None: one
            descriptor each.

    Returns:
        As `recalls`, and: "recall_curve": [recall@1, ..., recall@1%]; "intervals": {name of a recall: {K: (low, high)}};
        "rank": {"median", "90%"}, where 1 is the best; "query_ids": digest; "ranks": {"exact", and "within_5m" or
        "acceptable": (Q,) ranks from 0, "first_match": (Q,) rows of references}. Where places have positions, "metres":
        {"median", "within": {metres: share}} of the first match's distance to the truth. With `headings`, "heading_right":
        share of the queries whose descriptor closest to the truth is off by less than HEADING_DEGREES.
    """
    count = len(references)
    found = _searched(references, queries, task, multiply, top_k=1)
    result = _recalls(found, count, task)
    result["recall_curve"] = recall_curve(found.closer, one_percent(count)).tolist()
    ranks = {"exact": found.closer} | ({} if task.near is None else {task.counted: found.near_closer})
    result["intervals"] = {
        "recall" if name == "exact" else f"recall_{name}": {
            k: recall_interval(rank < depth) for k, depth in reported_k(count).items()
        }
        for name, rank in ranks.items()
    }
    nine_tenths = np.percentile(found.closer + 1, 90, method="inverted_cdf")
    result["rank"] = {"median": float(np.median(found.closer + 1)), "90%": float(nine_tenths)}
    first = found.winners[:, 0]
    if task.query_utm is not None:
        metres = np.linalg.norm(task.reference_utm[first] - task.query_utm, axis=1)
        within = {f"{bound:g}": float(np.mean(metres <= bound)) for bound in METRES}
        result["metres"] = {"median": float(np.median(metres)), "within": within}
    if headings is not None:
        turns = best_turns(references, queries, task.truth)
        off = np.abs(headings[np.arange(len(turns)), turns])
        result["heading_right"] = float(np.mean(np.minimum(off % 360, -off % 360) < HEADING_DEGREES))
    return result | {"query_ids": task.digest, "ranks": ranks | {"first_match": first}}


def _searched(references, queries, task, multiply, top_k=0):
    return search(references, queries, task.truth, task.near, top_k, multiply)


def _recalls(found, count, task):
    result = {
        "queries": len(found.closer),
        "references": count,
        "recall": reported_recalls(found.closer, count),
        "tied_queries": int(np.count_nonzero(found.tied)),
        "pessimistic_recall": reported_recalls(found.closer + found.tied, count),
    }
    if task.near is not None:
        result[f"recall_{task.counted}"] = reported_recalls(found.near_closer, count)
    return result
