"""The gradient by a convolution's kernel is TensorFlow's, however a batch is parted."""

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

import VGG
from safa.runtime import backend, weight_gradient
from safa.settings import NetworkConfig
from spatial_net import network
from triplet_loss import triplet_loss


@pytest.mark.parametrize("patch_bytes", [1, 4 * 9 * 6 * 11 * 3 * 2, 2**28])  # one image, two images, all five at a time
@pytest.mark.parametrize("size", [(3, 3), (5, 1)])
def test_both_gradients_are_tensorflows(size, patch_bytes, monkeypatch):
    monkeypatch.setattr(weight_gradient, "PATCH_BYTES", patch_bytes)
    random = np.random.default_rng(0)
    images, kernel, weights = (
        tf.constant(random.standard_normal(shape), tf.float32) for shape in ((5, 6, 11, 3), (*size, 3, 4), (5, 6, 11, 4))
    )
    found = []
    for convolve in weight_gradient.convolution, lambda images, kernel: tf.nn.conv2d(images, kernel, 1, "SAME"):
        with tf.GradientTape() as tape:
            tape.watch([images, kernel])
            outputs = convolve(images, kernel)
            total = tf.reduce_sum(outputs * weights)
        found.append([outputs, *tape.gradient(total, [images, kernel])])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_a_network_has_the_same_gradients_where_tensorflows_are_slow(monkeypatch):
    monkeypatch.setattr(VGG, "FEWEST_PRODUCTS", 0)
    views = [np.random.default_rng(view).integers(0, 256, (4, 32, 128, 3), np.uint8) for view in (0, 1)]

    def gradients(slow):
        monkeypatch.setattr(backend, "weight_gradients_are_slow", lambda: slow)
        model = network(NetworkConfig("SAFA_2", 1, 32, 128, 64, 1 / 16), keep_prob=1, seed=1)
        with tf.GradientTape() as tape:
            loss = triplet_loss(*model(views, training=True))
        return tape.gradient(loss, [variable.value for variable in model.trainable_variables])

    for one, other in zip(gradients(True), gradients(False), strict=True):
        assert np.abs(other).max() > 0
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-4 * np.abs(other).max())


def test_weights_files_are_those_of_keras_own_layer(tmp_path, monkeypatch):
    def keys(path):
        network(NetworkConfig("SAFA_1", 1, 32, 128, 64, 1 / 16)).save_weights(path)
        found = []
        with h5py.File(path) as file:
            file.visit(found.append)
        return found

    ours = keys(tmp_path / "ours.weights.h5")
    monkeypatch.setattr(VGG, "Conv2D", keras.layers.Conv2D)
    assert ours == keys(tmp_path / "keras.weights.h5") and len(ours) > 26


@pytest.mark.parametrize("size, channels, expected", [((112, 616), 64, True), ((7, 39), 512, True), ((32, 176), 8, False)])
def test_small_convolutions_keep_tensorflows_gradient(size, channels, expected, monkeypatch):
    called = []
    monkeypatch.setattr(backend, "weight_gradients_are_slow", lambda: True)
    monkeypatch.setattr(VGG, "convolution", lambda images, kernel: called.append(kernel) or images)
    VGG.Conv2D(channels, 3, padding="same", use_bias=False)(tf.zeros((1, *size, channels)))
    assert bool(called) == expected
