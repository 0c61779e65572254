"""Shorter descriptors: a projection on the directions in which an index's own descriptors are largest (PCA)."""

import numpy as np
import scipy.linalg

MOST_ROWS = 50_000  # that the directions are fitted on; more change them little
ROWS_AT_A_TIME = 4096
SEED = 0


def fit_projection(descriptors, values):
    """The directions that keep the most of (N, D) descriptors: (D, `values`) float32, orthonormal, the most important first.

    Products of projected descriptors, `descriptors @ directions`, are the best that so few values can do for the mean square
    error. Descriptors are not centred, since products are what a search compares.
    """
    count, dimension = descriptors.shape
    rows = np.sort(np.random.default_rng(SEED).permutation(count)[:MOST_ROWS])
    moments = np.zeros((dimension, dimension))
    for start in range(0, len(rows), ROWS_AT_A_TIME):
        part = np.asarray(descriptors[rows[start : start + ROWS_AT_A_TIME]], np.float32)
        moments += part.T @ part
    _, vectors = scipy.linalg.eigh(moments, subset_by_index=(dimension - values, dimension - 1))
    vectors = vectors[:, ::-1]
    # The sign of a direction is arbitrary; its largest value is positive, so that the same descriptors give the same bytes.
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(values)])
    return np.ascontiguousarray(vectors * signs, np.float32)
