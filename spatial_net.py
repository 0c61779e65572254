"""The networks: two branches from images to descriptors, each a backbone and an aggregation (paper, section 3)."""

import inspect

import keras
from keras import ops

from VGG import MEAN_BGR

NORM_EPSILON = 1e-12  # of the squared norm, TensorFlow's l2_normalize
SPATIAL_STDDEV, SPATIAL_BIAS = 0.005, 0.1  # initial values of the embedding's linear layers (published code)


@keras.saving.register_keras_serializable("SAFA")
class SpatialAwareEmbedding(keras.layers.Layer):
    """Spatial-aware feature aggregation: M weighted sums of a map's positions (paper, section 3.2, equation 2).

    The map's mean over channels, P = H*W values in row-major order, goes through two linear layers without
    activation, P -> P//2 -> P, for each of M embeddings. (The paper draws a maximum over channels; the published
    code, and so its weights, takes the mean.)

    Input: (B, H, W, C) float32.
    Output: (B, M*C) float32, embedding-major, not normalised.

    Args:
        num_embeddings: M.
        seed: of the initial weights; None draws one.
    """

    def __init__(self, num_embeddings, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.num_embeddings, self.seed = num_embeddings, seed

    def build(self, input_shape):
        _, height, width, _ = input_shape
        positions, hidden = height * width, height * width // 2
        seeds = (None, None) if self.seed is None else (2 * self.seed, 2 * self.seed + 1)

        def kernel(seed):
            return keras.initializers.TruncatedNormal(stddev=SPATIAL_STDDEV, seed=seed)

        bias = keras.initializers.Constant(SPATIAL_BIAS)
        self.weights1 = self.add_weight((positions, hidden, self.num_embeddings), kernel(seeds[0]), name="weights1")
        self.biases1 = self.add_weight((1, hidden, self.num_embeddings), bias, name="biases1")
        self.weights2 = self.add_weight((hidden, positions, self.num_embeddings), kernel(seeds[1]), name="weights2")
        self.biases2 = self.add_weight((1, positions, self.num_embeddings), bias, name="biases2")
        super().build(input_shape)

    def position_weights(self, maps):
        """The weight of each position in each embedding: (B, H, W, C) -> (B, H*W, M)."""
        means = ops.reshape(ops.mean(maps, axis=-1), (-1, maps.shape[1] * maps.shape[2]))
        hidden = ops.einsum("bi,ijd->bjd", means, self.weights1) + self.biases1
        return ops.einsum("bjd,jid->bid", hidden, self.weights2) + self.biases2

    def call(self, maps):
        _, height, width, channels = maps.shape
        features = ops.reshape(maps, (-1, height * width, channels))
        sums = ops.einsum("bic,bid->bdc", features, self.position_weights(maps))
        return ops.reshape(sums, (-1, self.num_embeddings * channels))

    def compute_output_shape(self, input_shape):
        return input_shape[0], self.num_embeddings * input_shape[-1]

    def get_config(self):
        return super().get_config() | {"num_embeddings": self.num_embeddings, "seed": self.seed}


@keras.saving.register_keras_serializable("SAFA")
class L2Normalization(keras.layers.Layer):
    """Scale each row to length 1: (B, D) -> (B, D). A row of zeros stays zero.

    As TensorFlow's `l2_normalize`, which the published code calls: NORM_EPSILON bounds the squared norm.
    `keras.layers.UnitNormalization` bounds the norm by that number, so shorter rows come out longer.
    """

    def call(self, rows):
        return rows * ops.rsqrt(ops.maximum(ops.sum(ops.square(rows), axis=-1, keepdims=True), NORM_EPSILON))

    def compute_output_shape(self, input_shape):
        return input_shape


def spatial_aware(num_embeddings, seed=None):
    """The paper's aggregation (section 3.2): a 2x2 max-pool, then spatial-aware embeddings, which compute in float32.

    Args:
        num_embeddings: M.
        seed: of the initial weights; None draws one.

    Returns:
        keras.Sequential: (B, H, W, C) maps -> (B, M*C) features.
    """
    pool = keras.layers.MaxPooling2D(2, padding="same", data_format="channels_last")
    return keras.Sequential([pool, SpatialAwareEmbedding(num_embeddings, seed, dtype="float32")])


def global_max():
    """The paper's baseline VGG_gp: the maximum of each channel, (B, H, W, C) -> (B, C)."""
    return keras.layers.GlobalMaxPooling2D(data_format="channels_last")


class Branch(keras.Model):
    """One branch of a network (paper, figure 2).

    Input: (B, *image_shape, 3) images, BGR, 0..255 (ValueError for others); in training also the cursor of `VGG.Dropout`.
    Output: (B, D) float32 descriptors of length 1.

    Args:
        backbone: layer from images to maps; gets the cursor if its `call` takes one. Its `fill` (BGR) stands for the unseen.
        aggregation: layer from maps to features.
        image_shape: (height, width) of the images.
    """

    def __init__(self, backbone, aggregation, image_shape, **kwargs):
        super().__init__(**kwargs)
        self.backbone, self.aggregation = backbone, aggregation
        self.normalization = L2Normalization(dtype="float32")
        self.image_shape, self.fill = tuple(image_shape), tuple(getattr(backbone, "fill", MEAN_BGR))
        self._takes_cursor = "cursor" in inspect.signature(backbone.call).parameters
        shape = self(keras.KerasTensor((None, *image_shape, 3))).shape  # builds all layers
        if len(shape) != 2:
            raise ValueError(f"the aggregation makes {shape}, not features (B, D)")
        self.dimension = shape[1]

    def call(self, images, cursor=None, training=False):
        if tuple(images.shape)[1:] != (*self.image_shape, 3):  # others may have as many positions, and give wrong descriptors
            raise ValueError(f"images are (B, {self.image_shape[0]}, {self.image_shape[1]}, 3), not {tuple(images.shape)}")
        given = {"cursor": cursor} if self._takes_cursor else {}
        maps = self.backbone(ops.cast(images, "float32"), training=training, **given)
        return self.normalization(self.aggregation(maps))


class Network(keras.Model):
    """Both branches, each with weights of its own.

    Input: a pair of (B, H, W, 3) satellite and ground images, BGR, 0..255; in training also the cursor.
    Output: a pair of (B, D) float32 descriptors of length 1.

    Args:
        sat, grd: Branch.
        is_shared: whether both have the same backbone.

    Attributes:
        loss_layer: a loss with weights of its own, which are trained with the network's; None.

    Raises:
        ValueError: the branches have a weight in common.
    """

    def __init__(self, sat, grd, is_shared=False, **kwargs):
        super().__init__(**kwargs)
        self.sat, self.grd, self.loss_layer, self.is_shared = sat, grd, None, is_shared
        common = {id(weight) for weight in sat.weights} & {id(weight) for weight in grd.weights}
        if common - {id(weight) for weight in sat.backbone.weights if is_shared}:
            raise ValueError("both branches got the same layer; make a new one for each")
        self.built = True

    def call(self, images, cursor=None, training=False):
        sat, grd = images
        of_grd = cursor + [2**32, 0] if self.is_shared and cursor is not None else cursor  # other masks than the tiles'
        return self.sat(sat, cursor, training=training), self.grd(grd, of_grd, training=training)


def network(sat_shape, grd_shape, backbone, aggregation, is_shared=False):
    """A network of two branches.

    Args:
        sat_shape, grd_shape: (height, width) of the images.
        backbone, aggregation: functions of a branch's name, "sat" or "grd", that make its layers (see `Branch`).
        is_shared: whether both branches get the satellite branch's backbone.

    Returns:
        Network.
    """
    sat = Branch(backbone("sat"), aggregation("sat"), sat_shape, name="branch_sat")
    grd = Branch(sat.backbone if is_shared else backbone("grd"), aggregation("grd"), grd_shape, name="branch_grd")
    return Network(sat, grd, is_shared)
