"""Products of descriptors on a GPU, for `search`."""

import tensorflow as tf


def products_on(device, references):
    """A `multiply` for `search` that computes on a device of TensorFlow's; None (NumPy computes) if it lacks such devices.

    In float32 whatever the network's precision is: `search` relies on its rounding.

    Args:
        device: "GPU:0", for instance.
        references: (N, D) float32, which stay in the device's memory.
    """
    if not tf.config.list_logical_devices(device.partition(":")[0]):
        return None
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
