"""How sure recalls are: bootstrap intervals, and whether two runs differ, from ranks alone."""

import dataclasses

import numpy as np
from scipy import stats

RESAMPLES = 10_000  # the interval's ends then move by less than a tenth of its width
LEVEL = 0.95
SEED = 0
TAILS = (50 * (1 - LEVEL), 100 - 50 * (1 - LEVEL))  # percentiles


def recall_interval(hits):
    """Bootstrap interval of a recall (Efron 1979, the percentile method).

    A resample draws as many queries as there are, with replacement, so its number of hits is binomial: drawing that number
    is the same as drawing the queries. Where all queries are hits, or none is, every resample is the same and the bootstrap
    knows no interval; the exact one of Clopper and Pearson stands in.

    Args:
        hits: (Q,) bool, whether each query's truth is among the K nearest.

    Returns:
        (low, high), fractions.
    """
    count, found = len(hits), int(np.count_nonzero(hits))
    if found in (0, count):
        exact = stats.binomtest(found, count).proportion_ci(LEVEL)
        return float(exact.low), float(exact.high)
    resampled = np.random.default_rng(SEED).binomial(count, found / count, RESAMPLES) / count
    low, high = np.percentile(resampled, TAILS)
    return float(low), float(high)


@dataclasses.dataclass(frozen=True)
class Difference:
    """How two recalls of the same queries differ.

    Attributes:
        recalls: of both, fractions.
        difference: the second less the first.
        low, high: its bootstrap interval.
        only_first, only_second: number of queries that only one of them finds.
    """

    recalls: tuple
    difference: float
    low: float
    high: float
    only_first: int
    only_second: int

    @property
    def differs(self):
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0


def paired_difference(first, second):
    """Paired bootstrap of two recalls: both runs' answers to a query are drawn together.

    Args:
        first, second: (Q,) bool, whether each run finds each query.

    Returns:
        Difference.

    Raises:
        ValueError: they are not of as many queries.
    """
    if len(first) != len(second) or not len(first):
        raise ValueError(f"{len(first)} and {len(second)} queries cannot be paired")
    count = len(first)
    lost, won = int(np.count_nonzero(first & ~second)), int(np.count_nonzero(second & ~first))
    shares = np.array([lost, won, count - lost - won]) / count
    drawn = np.random.default_rng(SEED).multinomial(count, shares, RESAMPLES)
    low, high = np.percentile((drawn[:, 1] - drawn[:, 0]) / count, TAILS)
    recalls = float(np.mean(first)), float(np.mean(second))
    return Difference(recalls, (won - lost) / count, float(low), float(high), lost, won)
