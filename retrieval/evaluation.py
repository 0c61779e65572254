"""Recalls of a network's descriptors (paper, section 4.1)."""

from runtime.files import write_whole

import io

import numpy as np

from datasets.positions import within
from recall import one_percent, recall_curve, reported_recalls
from retrieval.search import search


def evaluate(references, queries, pairs):
    """Search all queries among all references and count.

    Args:
        references, queries: (N, D) and (Q, D) float32 descriptors.
        pairs: datasets.dataset.Pairs that they describe.

    Returns:
        {"queries": Q, "references": N, "recall": {"1", "5", "10", "1%"}, "recall_curve": [recall@1, ..., recall@1%],
        "tied_queries": number of queries whose truth shares its distance with another reference,
        "pessimistic_recall": as "recall", with every tied reference before the truth}. Recalls are fractions. Where the
        dataset counts further references as hits, also "recall_within_5m" (those within `hit_metres`) or
        "recall_acceptable" (`Pairs.acceptable`), as "recall".
    """
    near, counted = hits(pairs)
    found = search(references, queries, pairs.truth, near)
    count = len(references)
    result = {
        "queries": len(queries),
        "references": count,
        "recall": reported_recalls(found.closer, count),
        "recall_curve": recall_curve(found.closer, one_percent(count)).tolist(),
        "tied_queries": int(np.count_nonzero(found.tied)),
        "pessimistic_recall": reported_recalls(found.closer + found.tied, count),
    }
    if near is not None:
        result[counted] = reported_recalls(found.near_closer, count)
    return result


def hits(pairs):
    """The references that count as hits besides the true one, and the result's name of that recall.

    Returns:
        For each query the rows of references, the true one among them, or None where only that counts; "recall_...".
    """
    metres = pairs.dataset.hit_metres
    if metres is not None:
        near = within(pairs.utm, metres)
        return [near[row] for row in pairs.truth], f"recall_within_{metres:g}m"
    if pairs.acceptable is not None:
        return [np.append(rows, true) for rows, true in zip(pairs.acceptable, pairs.truth, strict=True)], "recall_acceptable"
    return None, None


def save_descriptors(path, pairs, references, queries):
    """Write `ids` (Q strings), `sat_descriptors` and `grd_descriptors` ((N, D) and (Q, D) float32) to an .npz file.

    Where queries are not one to one with references, also `truth`, (Q,) int64: the row of each query's reference.
    """
    content = io.BytesIO()
    truth = {} if pairs.one_to_one else {"truth": pairs.truth}
    np.savez(content, ids=np.array(pairs.ids), sat_descriptors=references, grd_descriptors=queries, **truth)
    write_whole(path, content.getbuffer())
