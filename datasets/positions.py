"""Places by their positions in metres."""

import numpy as np
from scipy.spatial import cKDTree


def within(utm, metres):
    """The places that lie within a distance of each place.

    Args:
        utm: (N, 2) float64 easting and northing in metres.
        metres: the distance.

    Returns:
        List of N integer arrays, each with the place's own row among them.
    """
    tree, centre = _tree(utm)
    return [np.array(rows) for rows in tree.query_ball_point(utm - centre, metres)]


def distances_to_nearest(utm, others):
    """Distance in metres from each place to the nearest of others: (N, 2) and (M, 2) float64 -> (N,) float64."""
    tree, centre = _tree(others)
    return tree.query(utm - centre)[0]


def _tree(utm):
    """A KD-tree of places around their centre, so nothing is lost in the millions of a northing; and the centre."""
    centre = utm.mean(axis=0)
    return cKDTree(utm - centre), centre
