"""How far the truth and the hardest negative are apart: their similarities with a query."""

import numpy as np

from safa.retrieval.search import search

MOST_QUERIES = 2000  # of a sample: enough for a histogram
SEED = 0
DEEPEST = 64  # winners that are looked at for one that is no hit


def margins(references, queries, task):
    """Similarities of queries with their truth, and with the closest reference that is no hit.

    Args:
        references, queries, task: as of `retrieval.evaluation.evaluate`.

    Returns:
        rows: (n,) int64, the queries: all, or a sample of MOST_QUERIES that is always the same.
        positive, negative: (n,) float64 each; a negative is NaN where the DEEPEST closest references are all hits.
    """
    count = len(task.truth)
    rows = np.sort(np.random.default_rng(SEED).permutation(count)[:MOST_QUERIES])
    hits = [{int(task.truth[row])} | (set() if task.near is None else set(map(int, task.near[row]))) for row in rows]
    depth = min(DEEPEST, len(references), 1 + max(map(len, hits)))
    found = search(references, queries[rows], task.truth[rows], top_k=depth)
    negative = np.full(len(rows), np.nan)
    for number, (winners, allowed) in enumerate(zip(found.winners.tolist(), hits, strict=True)):
        place = next((place for place, winner in enumerate(winners) if winner not in allowed), None)
        if place is not None:
            negative[number] = found.similarities[number, place]
    return rows, true_similarities(references, queries[rows], task.truth[rows]), negative


def true_similarities(references, queries, truth):
    """Similarity of each query, or of the closest of its turns, with its truth: (Q,) float64."""
    turns = queries.reshape(len(queries), -1, references.shape[1])
    return np.einsum("qtd,qd->qt", turns, references[truth], dtype=np.float64).max(axis=1)
