"""How sure recalls are: Wilson's intervals, and whether two tests on the same queries differ, from ranks alone."""

import dataclasses

import numpy as np
from scipy import stats

LEVEL = 0.95


def recall_interval(recall, queries):
    """Wilson's score interval (1927) of a recall, a share of this many queries: (low, high), fractions.

    Near 100 % it covers the truth more often than a bootstrap does.
    """
    interval = stats.binomtest(round(recall * queries), queries).proportion_ci(LEVEL, "wilson")
    return float(interval.low), float(interval.high)


@dataclasses.dataclass(frozen=True)
class Difference:
    """How two recalls of the same queries differ."""

    recalls: tuple  # of both, fractions
    difference: float  # the second less the first
    low: float  # of its interval
    high: float
    only_first: int  # number of queries that only one of them finds
    only_second: int
    p_value: float  # of McNemar's exact test: how probable it is that two equally good networks differ as much

    @property
    def differs(self):
        """Whether chance explains the difference in less than 5 % of all cases."""
        return self.p_value < 1 - LEVEL


def paired_difference(first, second):
    """The Difference of two recalls; `first` and `second`: (Q,) bool, whether each of two networks finds each query.

    Its interval is Newcombe's (1998, method 10 without a correction of continuity): Wilson's of both recalls, put together
    with the correlation of their hits.

    Raises:
        ValueError: they are not of as many queries.
    """
    if len(first) != len(second) or not len(first):
        raise ValueError(f"{len(first)} and {len(second)} queries cannot be paired")
    recalls = float(np.mean(first)), float(np.mean(second))
    (low_1, high_1), (low_2, high_2) = (recall_interval(recall, len(first)) for recall in recalls)
    varies = min(recalls) > 0 and max(recalls) < 1
    correlation = float(np.corrcoef(first, second)[0, 1]) if varies else 0.0

    def distance(one, other):
        return max(0.0, one**2 - 2 * correlation * one * other + other**2) ** 0.5

    difference = recalls[1] - recalls[0]
    low = difference - distance(recalls[1] - low_2, high_1 - recalls[0])
    high = difference + distance(high_2 - recalls[1], recalls[0] - low_1)
    lost, won = int(np.count_nonzero(first & ~second)), int(np.count_nonzero(second & ~first))
    p_value = stats.binomtest(won, won + lost).pvalue if won + lost else 1.0
    return Difference(recalls, difference, low, high, lost, won, float(p_value))
