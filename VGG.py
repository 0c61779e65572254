"""VGG16's thirteen convolutions (Simonyan & Zisserman 2015), as SAFA's branches use them (paper, section 3)."""

import itertools
import random

import keras
import tensorflow as tf
from keras import ops

# Name and output channels of each convolution; a 2x2 max-pool stands after each of the first four blocks.
BLOCKS = (
    (("conv1_1", 64), ("conv1_2", 64)),
    (("conv2_1", 128), ("conv2_2", 128)),
    (("conv3_1", 256), ("conv3_2", 256), ("conv3_3", 256)),
    (("conv4_1", 512), ("conv4_2", 512), ("conv4_3", 512)),
    (("conv5_1", 512), ("conv5_2", 512), ("conv5_3", 512)),
)
DROPOUT_BLOCKS = (3, 4)  # dropout follows each convolution of blocks 4 and 5
MEAN_BGR = (103.939, 116.779, 123.6)  # grey levels; the published code's (ImageNet's mean red is 123.68)
PHILOX, PHILOX_VALUES = 1, 4  # TensorFlow's number of the random generator, and its values per count


@keras.saving.register_keras_serializable("SAFA")
class Dropout(keras.layers.Layer):
    """Dropout whose mask follows from the seed, the step, and the image's slot in the whole batch alone.

    So a batch has the same masks however it is spread over devices and micro batches, and a run that was stopped goes on
    with the masks that it would have had.

    Input: (B, H, W, C), and the cursor: (2,) int64, the step and the first image's slot in the whole batch; ValueError without.
    Output: (B, H, W, C), with values set to 0 at random and the others divided by `keep_prob`.

    Args:
        keep_prob: share of values that are kept, above 0 and at most 1.
        seed: of the masks.
    """

    def __init__(self, keep_prob, seed, **kwargs):
        super().__init__(**kwargs)
        self.keep_prob, self.seed = keep_prob, seed

    def call(self, maps, cursor):
        if cursor is None:
            raise ValueError("dropout needs the cursor in training, (2,) int64: step and first image's slot; or keep_prob 1")
        values = maps.shape[1] * maps.shape[2] * maps.shape[3]
        counts = -(-values // PHILOX_VALUES)  # of an image; an image begins with a count of its own
        noise = tf.raw_ops.StatelessRandomUniformFullIntV2(
            shape=[tf.shape(maps)[0], counts * PHILOX_VALUES],
            key=tf.constant([self.seed], tf.uint64),
            counter=tf.cast([cursor[1] * counts, cursor[0]], tf.uint64),
            dtype=tf.uint32,
            alg=PHILOX,
        )
        keep = tf.reshape(noise[:, :values], tf.shape(maps)) <= tf.constant(round(self.keep_prob * 2**32) - 1, tf.uint32)
        return maps * (tf.cast(keep, maps.dtype) / self.keep_prob)  # on CPUs a product is faster than a selection

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return super().get_config() | {"keep_prob": self.keep_prob, "seed": self.seed}


@keras.saving.register_keras_serializable("SAFA")
class VGG16(keras.layers.Layer):
    """Feature map of block 5: the images less the mean, 3x3 SAME convolutions with ReLU, 2x2 SAME max-pools.

    Input: (B, H, W, 3), BGR, 0..255, uint8 or float32; in training also the cursor of `Dropout`.
    Output: (B, ceil(H/16), ceil(W/16), 512 * width_multiplier), float32 unless the dtype policy computes in another.

    Args:
        width_multiplier: factor on the number of channels.
        keep_prob: share of activations that dropout keeps in training, after each convolution of blocks 4 and 5.
        seed: of dropout and of the He-normal kernels; None draws one.
    """

    def __init__(self, width_multiplier=1.0, keep_prob=0.8, seed=None, **kwargs):
        super().__init__(autocast=False, **kwargs)  # subtract the mean in float32
        self.width_multiplier, self.keep_prob, self.seed = width_multiplier, keep_prob, seed
        seeds = itertools.count(1000 * (random.getrandbits(31) if seed is None else seed))
        same = {"padding": "same", "data_format": "channels_last", "dtype": self.dtype_policy}
        convolution = same | {"kernel_size": 3, "activation": "relu"}
        self.blocks = []
        for number, block in enumerate(BLOCKS):
            layers = []
            for name, channels in block:
                filters, kernel = max(1, round(channels * width_multiplier)), keras.initializers.HeNormal(next(seeds))
                layers.append(keras.layers.Conv2D(filters, name=name, kernel_initializer=kernel, **convolution))
                if number in DROPOUT_BLOCKS and keep_prob < 1:
                    layers.append(Dropout(keep_prob, next(seeds), name=f"dropout{name[4:]}", dtype=self.dtype_policy))
            if number < len(BLOCKS) - 1:
                layers.append(keras.layers.MaxPooling2D(2, **same))
            self.blocks.append(layers)

    @property
    def convolutions(self):
        """{name: keras.layers.Conv2D}, in order."""
        return {layer.name: layer for block in self.blocks for layer in block if isinstance(layer, keras.layers.Conv2D)}

    def build(self, input_shape):
        for layer in itertools.chain(*self.blocks):
            layer.build(input_shape)
            input_shape = layer.compute_output_shape(input_shape)
        super().build(input_shape)

    def call(self, images, cursor=None, training=False):
        maps = ops.cast(images, "float32") - ops.convert_to_tensor(MEAN_BGR, "float32")
        for layer in itertools.chain(*self.blocks):
            if not isinstance(layer, Dropout):
                maps = layer(maps)
            elif training:
                maps = layer(maps, cursor)
        return maps

    def compute_output_shape(self, input_shape):
        for layer in itertools.chain(*self.blocks):
            input_shape = layer.compute_output_shape(input_shape)
        return input_shape

    def get_config(self):
        own = {"width_multiplier": self.width_multiplier, "keep_prob": self.keep_prob, "seed": self.seed}
        return super().get_config() | own
