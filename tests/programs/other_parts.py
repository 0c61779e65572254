"""Trains and tests with parts of its own, each a function or class here and a line below.

Arguments: "train", "test" or "prepare", with "_views" on the dataset `Views`, then the flags of the script that does this to
CVUSA.
"""

import sys

import numpy as np

import data_preparation
from safa import parts
from safa.datasets.cvusa import CVUSA
from safa.datasets.registry import DATASETS
from safa.launch.testing import launch_testing
from safa.launch.training import launch_training


def small(branch, width_multiplier, keep_prob, seed):
    """A convolution without a seed, batch normalisation and dropout of Keras, whose states are no weights, as a Keras model."""
    import keras

    images = keras.Input((None, None, 3))
    maps = keras.layers.Rescaling(1 / 128, -1)(images)
    maps = keras.layers.Conv2D(round(160 * width_multiplier), 5, 4, activation="relu", padding="same")(maps)
    maps = keras.layers.BatchNormalization(momentum=0.5)(maps)
    return keras.Model(images, keras.layers.Dropout(0.1, seed=seed)(maps), name=f"small_{branch}")


def augmented(*settings):
    """The same of images that Keras's own layer makes brighter or darker in training; what it does not see is grey."""
    import keras

    backbone = keras.Sequential([keras.layers.RandomBrightness(0.05, value_range=(0, 255), seed=0), small(*settings)])
    backbone.fill = 128.0, 128.0, 128.0
    return backbone


def few_blocks(branch, width_multiplier, keep_prob, seed):
    """VGG16 with a convolution in each of its first three blocks, and its dropout in two of them."""
    import VGG

    VGG.BLOCKS, VGG.DROPOUT_BLOCKS = tuple(block[:1] for block in VGG.BLOCKS[:3]), (1, 2)
    return VGG.VGG16(width_multiplier, keep_prob, seed, name=f"VGG_{branch}")


def mean(branch, number, seed):
    import keras

    return keras.layers.GlobalAveragePooling2D()


def info_nce():
    """Cross-entropy of each panorama's similarities (van den Oord et al. 2018), with a learned temperature."""
    import keras
    from keras import ops

    class InfoNCE(keras.layers.Layer):
        def build(self, *_):
            self.scale = self.add_weight((), keras.initializers.Constant(10.0), name="scale")
            self.count, _ = self.add_weight((), "zeros", trainable=False, name="count"), self.add_weight((), name="idle")

        def call(self, sat, grd, negatives):
            self.count.assign_add(1)
            similarities = self.scale * ops.matmul(grd, ops.transpose(sat))
            return ops.mean(ops.logsumexp(similarities, axis=1) - ops.diagonal(similarities))

    return InfoNCE()


def near_then_alike(pairs, epoch, seed, batch_size, sat, grd):
    """Batches of pairs that are hard to tell apart: first near each other, then alike (Deuser et al., ICCV 2023)."""
    left, order = np.random.default_rng([seed, epoch]).permutation(len(pairs)), []
    while len(left):
        apart = -grd[left] @ sat[pairs.truth[left[0]]]
        if epoch == 1 and pairs.query_utm is not None:
            apart = np.linalg.norm(pairs.query_utm[left] - pairs.query_utm[left[0]], axis=1)
        hardest = np.argsort(apart, kind="stable")[:batch_size]
        order += left[hardest].tolist()
        left = np.delete(left, hardest)
    return np.array(order)


class Views(CVUSA):
    """CVUSA's images as views that are no panoramas, with polar maps of another size."""

    name = "Views"
    polar_size = (61, 336)
    has_panoramas = False


if __name__ == "__main__":
    parts.BACKBONES["small"], parts.AGGREGATIONS["mean"], parts.LOSSES["info_nce"] = small, mean, info_nce
    parts.BACKBONES["augmented"] = augmented
    parts.SAMPLERS["near_then_alike"], DATASETS["views"] = near_then_alike, Views
    action, _, views = sys.argv.pop(1).partition("_")
    dataset = Views if views else CVUSA
    if action == "train":
        launch_training(__doc__, dataset)
    elif action == "test":
        launch_testing(__doc__, {"val": dataset})
    else:
        sys.exit(data_preparation.main())
