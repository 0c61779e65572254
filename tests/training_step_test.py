"""The parts of a training step: dropout's masks, precision, learning rate."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from input_data import Batch
from safa.parts import build_network
from safa.settings import NetworkConfig, TrainingConfig
from safa.training.step import adam, batch_loss, learning_rate_schedule, training_step
from VGG import Dropout

SMALL = NetworkConfig("SAFA_2", 1, 32, 128, 64, 1 / 16)


def images(count):
    return np.random.default_rng(0).integers(0, 256, (2, count, 32, 128, 3), np.uint8)


@pytest.mark.parametrize("shape", [(4, 8, 3), (3, 5, 7)])  # 7 x 15 values do not fill the generator's fours
def test_a_batch_has_the_same_dropout_in_one_piece_and_in_micro_batches(shape):
    maps = tf.ones((8, *shape))
    layer = Dropout(0.8, seed=3)
    whole = layer(maps, tf.constant([5, 0], tf.int64)).numpy()
    parts = [layer(maps[start : start + 2], tf.constant([5, start], tf.int64)).numpy() for start in range(0, 8, 2)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_dropout_keeps_its_share_and_differs_between_steps_rows_and_seeds():
    maps = tf.ones((50, 10, 10, 32))
    masks = [
        Dropout(0.8, seed)(maps, tf.constant(position, tf.int64)).numpy()
        for seed, position in ((1, (0, 0)), (1, (1, 0)), (2, (0, 0)), (1, (0, 50)))
    ]
    for mask in masks:
        assert set(np.unique(mask)) == {0, np.float32(1.25)}
        assert np.mean(mask > 0) == pytest.approx(0.8, abs=0.005)  # five standard deviations
        assert np.mean((mask[0] > 0) == (mask[1] > 0)) == pytest.approx(0.68, abs=0.05)  # 0.8^2 + 0.2^2
    for number, mask in enumerate(masks[1:]):
        assert np.mean((mask > 0) == (masks[0] > 0)) == pytest.approx(0.68, abs=0.01), number


def test_bfloat16_is_near_float32_and_keeps_weights_and_descriptors_in_float32():
    found = {}
    for precision in ("float32", "bfloat16"):
        model = build_network(SMALL, 1.0, seed=1, precision=precision)
        assert {variable.dtype for variable in model.trainable_variables} == {"float32"}
        found[precision] = model(list(images(4)))[0]
        assert found[precision].dtype == tf.float32
        convolution = model.sat.backbone.convolutions["conv3_1"]
        assert convolution.compute_dtype == precision
    difference = np.abs(found["float32"] - found["bfloat16"]).max()
    assert 0 < difference < 0.05
    assert model.sat.aggregation.layers[-1].compute_dtype == "float32"


def test_learning_rates_are_constant_or_fall_to_0_after_a_warm_up():
    def rates(*arguments):
        schedule = learning_rate_schedule(1e-5, *arguments)
        return [float(schedule if isinstance(schedule, float) else schedule(step)) for step in (0, 5, 10, 55, 100)]

    assert rates("constant", 0, 100) == [1e-5] * 5
    np.testing.assert_allclose(rates("constant", 10, 100), [0, 5e-6, 1e-5, 1e-5, 1e-5], atol=1e-12)
    np.testing.assert_allclose(rates("cosine", 10, 100), [0, 5e-6, 1e-5, 5e-6, 0], atol=1e-12)
    np.testing.assert_allclose(rates("cosine", 0, 100)[::4], [1e-5, 0], atol=1e-12)


def test_a_loss_whose_variable_nobody_trains_is_refused():
    scale, model = keras.Variable(10.0), build_network(SMALL, 1.0)
    optimizer = adam(1e-3)
    optimizer.build(model.trainable_variables)

    def loss(sat, grd, negatives):
        return keras.ops.mean(scale * sat * grd)

    step = training_step(model, optimizer, batch_loss(TrainingConfig(), loss=loss))
    with pytest.raises(ValueError, match="make it a Keras layer"):
        step(Batch(*map(tf.constant, images(4)), offset=tf.constant(0, tf.int64)))
