"""Compares the gradients of a whole batch on one device with those of micro batches and of two devices."""

import keras
import numpy as np
import tensorflow as tf

from input_data import Batch
from safa.datasets.positions import far_apart
from safa.parts import build_network
from safa.runtime.distribution import Distribution
from safa.settings import NetworkConfig
from safa.training.step import training_step
from triplet_loss import triplet_loss

two_devices = Distribution(2)
random = np.random.default_rng(0)
sat, grd = random.integers(0, 256, (2, 8, 32, 128, 3), np.uint8)
utm = 6e6 + random.random((8, 2)) * 60
far = far_apart(utm, utm, 25.0).astype(np.float32)


class OneDevice:
    strategy = tf.distribute.get_strategy()

    def spread(self, *arrays):
        return tf.constant(0, tf.int64), *map(tf.constant, arrays)


def gradients(distribution, micro_batch, clip_norm=None, loss_of=triplet_loss):
    with distribution.strategy.scope():
        model = build_network(NetworkConfig("SAFA_2", 1, 32, 128, 64, 1 / 16, "few_blocks"), 0.8, seed=1)
        optimizer = keras.optimizers.SGD(1.0)
        optimizer.build(model.trainable_variables)
    step = training_step(model, optimizer, loss_of, distribution.strategy, micro_batch, clip_norm)
    before = [variable.numpy() for variable in model.trainable_variables]
    offset, *shares = distribution.spread(sat, grd, far)
    loss = step(Batch(*shares, offset=offset))
    after = [variable.numpy() for variable in model.trainable_variables]
    return float(loss), [old - new for old, new in zip(before, after, strict=True)]


def norm(of_gradients):
    return np.sqrt(sum(np.square(each, dtype=np.float64).sum() for each in of_gradients))


loss, expected = gradients(OneDevice(), None)
for distribution, clipped_to in ((OneDevice(), None), (two_devices, 0.5)):
    clip_norm = clipped_to and clipped_to * norm(expected)
    other, found = gradients(distribution, 2, clip_norm)
    assert abs(loss - other) < 1e-6, (loss, other)
    for one, two in zip(expected, found, strict=True):
        assert np.abs(one).max() > 0
        np.testing.assert_allclose(one, two / (clipped_to or 1), rtol=0, atol=1e-4 * np.abs(one).max() + 1e-7)


def infinite_for_the_second_device(sat, grd, _):
    return triplet_loss(sat, grd) + tf.reduce_sum(tf.sqrt(0 * sat[4:]))


loss, _ = gradients(two_devices, None, loss_of=infinite_for_the_second_device)
assert np.isnan(loss), loss
