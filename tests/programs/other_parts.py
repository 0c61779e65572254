"""Trains and tests with a backbone, an aggregation and a loss of its own: each a function here and a line below.

Arguments: "train" or "test", then the flags of train_cvusa.py or test_cvusa.py.
"""

import sys

import keras
from keras import ops

from safa.datasets.cvusa import CVUSA
from safa.launch.testing import launch_testing
from safa.launch.training import launch_training
from safa.runtime.errors import reported


class Small(keras.layers.Layer):
    """A convolution with batch normalisation and Keras's own dropout, whose states are no weights."""

    def __init__(self, channels, seed, **kwargs):
        super().__init__(**kwargs)
        kernel = keras.initializers.HeNormal(seed)
        self.convolution = keras.layers.Conv2D(channels, 5, 4, kernel_initializer=kernel, activation="relu", name="conv")
        self.norm = keras.layers.BatchNormalization(momentum=0.5, name="norm")
        self.dropout = keras.layers.Dropout(0.1, seed=seed, name="dropout")

    def build(self, shape):
        self.convolution.build(shape)
        self.norm.build(self.convolution.compute_output_shape(shape))

    def call(self, images, training=False):
        maps = self.norm(self.convolution(images / 128 - 1), training=training)
        return self.dropout(maps, training=training)


def small(view, width_multiplier, keep_prob, seed, policy):
    return Small(round(160 * width_multiplier), seed, name=f"small_{view}", dtype=policy)


def mean(view, num_embeddings, seed, policy):
    return keras.layers.GlobalAveragePooling2D(name=f"mean_{view}", dtype=policy)


def info_nce(sat, grd, negatives):
    """Cross-entropy of each panorama's similarities (van den Oord et al. 2018)."""
    similarities = 10 * ops.matmul(grd, ops.transpose(sat))
    return ops.mean(ops.logsumexp(similarities, axis=1) - ops.diagonal(similarities))


if __name__ == "__main__":
    action = sys.argv.pop(1)
    with reported():
        if action == "train":
            launch_training(__doc__, CVUSA)
        else:
            launch_testing(__doc__, {"val": CVUSA})
