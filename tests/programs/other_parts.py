"""Trains and tests with a backbone, an aggregation and a loss of its own: each a function here and a line below.

Arguments: "train" or "test", then the flags of train_cvusa.py or test_cvusa.py.
"""

import sys

from safa import parts
from safa.datasets.cvusa import CVUSA
from safa.launch.testing import launch_testing
from safa.launch.training import launch_training
from safa.runtime.errors import reported


def small(branch, width_multiplier, keep_prob, seed, dtype):
    """A convolution with batch normalisation and Keras's own dropout, whose states are not weights, as a Keras model."""
    import keras

    images, options = keras.Input((None, None, 3)), {"kernel_initializer": keras.initializers.HeNormal(seed), "dtype": dtype}
    maps = keras.layers.Rescaling(1 / 128, -1)(images)
    maps = keras.layers.Conv2D(round(160 * width_multiplier), 5, 4, activation="relu", padding="same", **options)(maps)
    maps = keras.layers.BatchNormalization(momentum=0.5, dtype=dtype)(maps)
    return keras.Model(images, keras.layers.Dropout(0.1, seed=seed, dtype=dtype)(maps), name=f"small_{branch}")


def few_blocks(branch, width_multiplier, keep_prob, seed, dtype):
    """VGG16 with a convolution in each of its first three blocks, and its dropout in two of them."""
    import VGG

    VGG.BLOCKS, VGG.DROPOUT_BLOCKS = tuple(block[:1] for block in VGG.BLOCKS[:3]), (1, 2)
    return VGG.VGG16(width_multiplier, keep_prob, seed, name=f"VGG_{branch}", dtype=dtype)


def mean(branch, number, seed, dtype):
    import keras

    return keras.layers.GlobalAveragePooling2D(dtype=dtype)


def info_nce():
    """Cross-entropy of each panorama's similarities (van den Oord et al. 2018), with a learned temperature."""
    import keras
    from keras import ops

    class InfoNCE(keras.layers.Layer):
        def build(self, *_):
            self.scale = self.add_weight((), keras.initializers.Constant(10.0), name="scale")

        def call(self, sat, grd, negatives=None):
            similarities = self.scale * ops.matmul(grd, ops.transpose(sat))
            return ops.mean(ops.logsumexp(similarities, axis=1) - ops.diagonal(similarities))

    return InfoNCE()


if __name__ == "__main__":
    parts.BACKBONES["small"], parts.AGGREGATIONS["mean"], parts.LOSSES["info_nce"] = small, mean, info_nce
    action = sys.argv.pop(1)
    with reported():
        if action == "train":
            launch_training(__doc__, CVUSA)
        else:
            launch_testing(__doc__, {"val": CVUSA})
