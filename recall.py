"""Recalls of a retrieval: how often the true place is among the K nearest (paper, section 4.1)."""

import numpy as np

REPORTED = (1, 5, 10)


def recall_at(rank, k):
    """Recall@k, a fraction. `rank`: (Q,) integers, how many references are closer than each query's truth; 0 is the best."""
    return float(np.mean(rank < k))


def one_percent(references):
    """The K of recall@1%: int(0.01 N), and 1 for fewer than 100 references, where that would be 0."""
    return max(1, references // 100)


def recall_curve(rank, count):
    """recall@1, ..., recall@count: (count,) float64; `rank` as of `recall_at`."""
    return np.bincount(np.minimum(rank, count), minlength=count + 1)[:count].cumsum() / len(rank)


def reported_k(references):
    """The K of the four recalls that papers report, among so many references: {"1": 1, "5": 5, "10": 10, "1%": K}."""
    return {str(k): k for k in REPORTED} | {"1%": one_percent(references)}


def reported_recalls(rank, references):
    """The four recalls that papers report, among so many references: {"1", "5", "10", "1%"}, fractions; `rank` as there."""
    return {name: recall_at(rank, k) for name, k in reported_k(references).items()}
