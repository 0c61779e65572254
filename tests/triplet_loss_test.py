"""The loss is the method's, and stays finite where its formula as written overflows."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import unit

from safa.datasets.positions import far_apart
from triplet_loss import triplet_loss


def descriptors(seed, batch=5, values=7):
    return unit(np.random.default_rng(seed).standard_normal((batch, values)))


def as_written(sat, grd, mask=None):
    """Equation by equation, in float64."""
    distances = 2 - 2 * sat.astype(np.float64) @ grd.T.astype(np.float64)
    total = 0.0
    for i in range(len(sat)):
        for j in range(len(grd)):
            m = 1 if mask is None else mask[i, j]
            total += np.log(1 + np.exp(10 * m * (distances[j, j] - distances[i, j])))
            total += np.log(1 + np.exp(10 * m * (distances[i, i] - distances[i, j])))
    return total / 2 / (len(sat) * (len(sat) - 1) if mask is None else mask.sum())


def test_all_negatives_and_the_diagonal_count_and_near_places_are_no_negatives_but_keep_their_constant():
    sat, grd = descriptors(0), descriptors(1)
    assert float(triplet_loss(sat.astype(np.float64), grd)) == pytest.approx(as_written(sat, grd), rel=1e-5)
    for given in ((sat[:1], grd), (sat, grd, np.ones(5)), (sat, grd, np.ones((1, 5))), (sat[:, :5, None],) * 2):  # broadcast
        with pytest.raises(ValueError, match="both .B, D."):
            triplet_loss(*given)
    symbols = [keras.Input((size,), batch_size=5) for size in (7, 7, 5)]
    assert triplet_loss(*symbols).shape == ()
    utm = np.array([[0, 0], [0, 24.9], [0, 25], [60, 0], [60, 1.0]]) + [693000, 6090000]
    mask = far_apart(utm, utm, 25.0).astype(np.float32)
    assert mask[0].tolist() == [0, 0, 1, 1, 1] and mask[3].tolist() == [1, 1, 1, 0, 0]
    assert float(triplet_loss(sat, grd, mask)) == pytest.approx(as_written(sat, grd, mask), rel=1e-5)


def loss_and_gradients(sat, grd, *arguments):
    sat, grd = tf.Variable(sat), tf.Variable(grd)
    with tf.GradientTape() as tape:
        loss = triplet_loss(sat, grd, *arguments)
    return float(loss), *(gradient.numpy() for gradient in tape.gradient(loss, [sat, grd]))


def test_loss_and_gradients_do_not_overflow_and_are_0_without_negatives():
    sat = np.float32([[100, 0], [-100, 0]])
    assert all(np.isfinite(each).all() for each in loss_and_gradients(sat, -sat))
    for batch_hard_count in 0, 2:
        found = loss_and_gradients(descriptors(0), descriptors(1), np.zeros((5, 5), np.float32), batch_hard_count)
        assert not any(map(np.any, found))


def test_places_that_are_no_negatives_are_not_among_the_hardest():
    sat, grd = descriptors(0), descriptors(1)
    utm = np.array([[0, 0], [0, 9], [0, 40], [60, 0], [60, 1.0]]) + [693000, 6090000]
    mask = far_apart(utm, utm, 25.0).astype(np.float32)
    mask[4, :3] = mask[:3, 4] = 0  # the last place has no negative, the first two have two, the others two and three
    distances = 2 - 2 * sat.astype(np.float64) @ grd.T.astype(np.float64)
    views = []
    for differences in (np.diagonal(distances)[:, None] - distances, (np.diagonal(distances)[None] - distances).T):
        losses = [sorted(np.log(1 + np.exp(10 * differences[row, mask[row] == 1])))[-2:] for row in range(5)]
        assert [len(row) for row in losses] == [2, 2, 2, 2, 0]
        views.append(np.mean(np.concatenate(losses)))
    assert float(triplet_loss(sat, grd, mask, batch_hard_count=2)) == pytest.approx(np.mean(views), rel=1e-5)
