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
    centred = utm - utm.mean(axis=0)  # so nothing is lost in the millions of a northing
    return [np.array(rows) for rows in cKDTree(centred).query_ball_point(centred, metres)]


def distances_to_nearest(utm, others):
    """Distance in metres from each place to the nearest of others: (N, 2) and (M, 2) float64 -> (N,) float64."""
    centre = others.mean(axis=0)
    return cKDTree(others - centre).query(utm - centre)[0]
