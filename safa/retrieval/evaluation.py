"""Recalls of a search, and how sure they are (paper, section 4.1); and how far truth and hardest negative are apart."""

import numpy as np

from recall import one_percent, recall_curve, reported_recalls
from safa.retrieval.confidence import recall_interval

WINNERS = 16  # closest references of each query that a test asks `search` for: pictures show 5, hardest negatives lie deeper
METRES = (5.0, 25.0, 100.0)  # shares of first matches within these are reported
HEADING_DEGREES = 11.25  # DSM's bound: 2 of its 64 columns


def recalls(task, found):
    """The recalls of a search, for a validation.

    Args:
        task: retrieval.task.Task.
        found: SearchResult of its queries.

    Returns:
        {"queries": Q, "references": N, "recall": {"1", "5", "10", "1%"}, "tied_queries": number of queries whose truth
        shares its distance with another reference, "pessimistic_recall": as "recall", with every tied reference before the
        truth}. Recalls are fractions. Where the task counts further references as hits, also "recall_within_5m" or
        "recall_acceptable", as "recall". Where it has a hit rate, "recall_hit_rate": of the truth among all references but the
        acceptable ones, whose "1" is the hit rate of VIGOR (Zhu et al. 2021): no other reference is closer than the truth.
    """
    result = {
        "queries": len(found.closer),
        "references": found.references,
        "recall": reported_recalls(found.closer, found.references),
        "tied_queries": int(np.count_nonzero(found.tied)),
        "pessimistic_recall": reported_recalls(found.closer + found.tied, found.references),
    }
    if task.near is not None:
        result[f"recall_{task.counted}"] = reported_recalls(found.near_closer, found.references)
    if task.has_hit_rate:
        result["recall_hit_rate"] = reported_recalls(found.others_closer, found.references)
    return result


def evaluate(task, found, degrees_off=None):
    """All that is reported of a test.

    Args:
        task, found: as of `recalls`; at least one winner a query.
        degrees_off: (Q, T) float64 degrees by which the heading that each of a query's descriptors assumes is off; None: one
            descriptor each.

    Returns:
        As `recalls`, and: "recall_curve": [recall@1, ..., recall@1%]; "intervals": {name of a recall: {K: (low, high)}};
        "rank": {"median", "90%"}, where 1 is the best; "query_ids": digest; "counted": of the task; "ranks": {"exact", and
        "within_5m" or "acceptable" and "hit_rate": (Q,) ranks from 0, "first_match": (Q,) rows of references}. Where places
        have coordinates, "metres": {"median", "within": {metres: share}} of the first match's distance to the truth. With
        `degrees_off`, "heading_right": share of the queries whose descriptor closest to the truth is off by less than
        HEADING_DEGREES.
    """
    count, queries = found.references, len(found.closer)
    result = recalls(task, found)
    result["recall_curve"] = recall_curve(found.closer, one_percent(count)).tolist()
    ranks = {"exact": found.closer} | ({} if task.near is None else {task.counted: found.near_closer})
    ranks |= {"hit_rate": found.others_closer} if task.has_hit_rate else {}
    counted = ["recall", *(f"recall_{name}" for name in ranks if name != "exact")]
    result["intervals"] = {name: {k: recall_interval(at, queries) for k, at in result[name].items()} for name in counted}
    nine_tenths = np.percentile(found.closer + 1, 90, method="inverted_cdf")
    result["rank"] = {"median": float(np.median(found.closer + 1)), "90%": float(nine_tenths)}
    first = found.winners[:, 0]
    if task.query_utm is not None:
        metres = np.linalg.norm(task.reference_utm[first] - task.query_utm, axis=1)
        within = {f"{bound:g}": float(np.mean(metres <= bound)) for bound in METRES}
        result["metres"] = {"median": float(np.median(metres)), "within": within}
    if degrees_off is not None:
        off = np.abs(degrees_off[np.arange(len(found.turn)), found.turn])
        result["heading_right"] = float(np.mean(np.minimum(off % 360, -off % 360) < HEADING_DEGREES))
    return result | {"query_ids": task.digest, "counted": task.counted, "ranks": ranks | {"first_match": first}}


def margins(task, found):
    """Similarities of a Task's queries with their truth, and with the closest reference that is not a hit: (Q,) float64 each.

    `found`: their SearchResult. Where all winners of a query are hits, the second is NaN.
    """
    hits = found.winners == task.truth[:, None]
    for row, near in enumerate([] if task.near is None else task.near):
        hits[row] |= np.isin(found.winners[row], near)
    negative = found.similarities[np.arange(len(hits)), hits.argmin(axis=1)]  # of the first that is not a hit
    return found.similarity, np.where(hits.all(axis=1), np.nan, negative)
