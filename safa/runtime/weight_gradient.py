"""The gradient of a convolution by its kernel, as a matrix product."""

import tensorflow as tf

from safa.runtime import backend  # noqa: F401

PATCH_BYTES = 2**28  # of the patches of some of a batch's images, which are in memory at a time
# Of an image's pixels, channels and filters, from which on the matrix product is faster: 1.1 to 2.2 times at the paper's sizes.
# Below that it is slower, with 4 channels four times.
FEWEST_PRODUCTS = 50e6


@tf.custom_gradient
def convolution(images, kernel):
    """A convolution with SAME padding and stride 1, whose gradient by the kernel is computed as a matrix product.

    Args:
        images: (B, H, W, C) float32.
        kernel: (height, width, C, F) float32, height and width odd.

    Returns:
        (B, H, W, F) float32.
    """

    def gradients(outputs):
        by_images = tf.raw_ops.Conv2DBackpropInput(
            input_sizes=tf.shape(images), filter=kernel, out_backprop=outputs, strides=[1, 1, 1, 1], padding="SAME"
        )
        return by_images, kernel_gradient(images, outputs, kernel.shape[:2])

    return tf.nn.conv2d(images, kernel, 1, "SAME"), gradients


def kernel_gradient(images, outputs, size):
    """Gradient by the kernel: each entry is the product of a shifted image with the gradient by the outputs.

    Args:
        images: (B, H, W, C) float32, the convolution's inputs.
        outputs: (B, H, W, F) float32, the gradient by its outputs.
        size: (height, width) of the kernel.

    Returns:
        (*size, C, F) float32.
    """
    _, height, width, channels = images.shape
    filters = outputs.shape[3]
    at_a_time = max(1, PATCH_BYTES // (4 * size[0] * size[1] * height * width * channels))
    padding = [[0, 0], [size[0] // 2] * 2, [size[1] // 2] * 2, [0, 0]]

    def of_images(start):
        padded = tf.pad(images[start : start + at_a_time], padding)
        patches = tf.concat(
            [padded[:, row : row + height, column : column + width] for row in range(size[0]) for column in range(size[1])],
            axis=3,
        )
        return tf.matmul(
            tf.reshape(patches, (-1, size[0] * size[1] * channels)),
            tf.reshape(outputs[start : start + at_a_time], (-1, filters)),
            transpose_a=True,
        )

    batch = tf.shape(images)[0]
    _, gradient = tf.while_loop(  # one part after the other: in a plain loop TensorFlow would compute them at once
        lambda start, _: start < batch,
        lambda start, total: (start + at_a_time, total + of_images(start)),
        (0, tf.zeros((size[0] * size[1] * channels, filters))),
        parallel_iterations=1,
    )
    return tf.reshape(gradient, (*size, channels, filters))
