"""Places by their coordinates in metres: (N, 2) float64 easting and northing."""

import numpy as np
from scipy.spatial import cKDTree

HIT_METRES = 5.0  # CVACT_test: a match this close to the truth counts too


def within(utm, metres, of=None):
    """For each of `of` (default: `utm`) the rows of all `utm` within a distance: list of integer arrays."""
    tree, centre = _tree(utm)
    return [np.array(rows, np.int64) for rows in tree.query_ball_point((utm if of is None else of) - centre, metres)]


def count_within(utm, metres, of):
    """How many places `within` finds in all, without the memory to name them."""
    tree, centre = _tree(utm)
    return int(tree.query_ball_point(of - centre, metres, return_length=True).sum())


def far_apart(utm, others, metres):
    """Which of n places lie at least that far from which of m others: (n, m) bool, computed in float64."""
    return np.square(utm[:, None] - others[None]).sum(axis=-1) >= metres**2


def distances_to_nearest(utm, others):
    """Distance in metres from each of N places to the nearest of others: (N,) float64."""
    tree, centre = _tree(others)
    return tree.query(utm - centre)[0]


def _tree(utm):
    """A KD-tree of places around their centre, so nothing is lost in the millions of a northing; and the centre."""
    centre = utm.mean(axis=0)
    return cKDTree(utm - centre), centre
