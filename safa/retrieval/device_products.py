"""Products of descriptors on a GPU, for `search`."""

import tensorflow as tf


def products_on(device, references):
    """A `multiply` for `search` that computes on a device of TensorFlow's; None (NumPy computes) if it lacks such devices.

    `device`: "GPU:0", for instance. `references`: (N, D) float32, which stay in the device's memory, as float64.
    """
    if not tf.config.list_logical_devices(device.partition(":")[0]):
        return None
    with tf.device(device):
        there = tf.cast(tf.constant(references), tf.float64)

    def multiply(rows):
        with tf.device(device):
            return tf.matmul(tf.cast(tf.constant(rows), tf.float64), there, transpose_b=True).numpy()

    return multiply
