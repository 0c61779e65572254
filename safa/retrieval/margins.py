"""How far the truth and the hardest negative are apart: their similarities with a query."""

import numpy as np


def margins(task, found):
    """Similarities of all queries with their truth, and with the closest reference that is not a hit.

    Args:
        task: retrieval.task.Task.
        found: retrieval.search.SearchResult of its queries.

    Returns:
        positive, negative: (Q,) float64 each; a negative is NaN where all winners of a query are hits.
    """
    hits = found.winners == task.truth[:, None]
    for row, near in enumerate([] if task.near is None else task.near):
        hits[row] |= np.isin(found.winners[row], near)
    negative = found.similarities[np.arange(len(hits)), hits.argmin(axis=1)]  # of the first that is not a hit
    return found.similarity, np.where(hits.all(axis=1), np.nan, negative)
