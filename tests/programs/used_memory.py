"""Computes the gradient of a convolution in bfloat16 where NaN lay in memory before."""

import numpy as np
import tensorflow as tf

from safa.runtime.backend import compute_in

compute_in("bfloat16")
images, gradient = tf.ones((4, 28, 154, 128), tf.bfloat16), tf.ones((4, 28, 154, 256), tf.bfloat16)
np.full(31 * 2**20, 0xFF, np.uint8)  # memory of up to so many bytes comes from what was given back before
used = [np.full(int(size), 0xFF, np.uint8) for size in np.geomspace(5e4, 3e7, 25).repeat(6)]
del used
found = tf.raw_ops.Conv2DBackpropFilter(
    input=images, filter_sizes=(3, 3, 128, 256), out_backprop=gradient, strides=(1, 1, 1, 1), padding="SAME"
)
assert np.isfinite(found.numpy().astype(np.float32)).all()
