"""Products of descriptors on a GPU, for `search`."""

import tensorflow as tf


def products_on_gpu(references):
    """A function for `search` that multiplies on the first GPU, or None where TensorFlow sees none."""
    return products_on("GPU:0", references) if tf.config.list_logical_devices("GPU") else None


def products_on(device, references):
    """Function from (n, D) float32 rows to their (n, N) float32 products with all references, computed on a device.

    In float32 whatever the network's precision is: `search` relies on its rounding.

    Args:
        device: TensorFlow's name of it.
        references: (N, D) float32, which stay in the device's memory.
    """
    with tf.device(device):
        there = tf.constant(references)

    def multiply(rows):
        tf32 = tf.config.experimental.tensor_float_32_execution_enabled()
        tf.config.experimental.enable_tensor_float_32_execution(False)
        try:
            with tf.device(device):
                return tf.matmul(tf.constant(rows), there, transpose_b=True).numpy()
        finally:
            tf.config.experimental.enable_tensor_float_32_execution(tf32)

    return multiply
