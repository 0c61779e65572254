"""The networks: two branches from images to descriptors, each a backbone and an aggregation (paper, section 3)."""

import keras
from keras import ops

from safa.settings import AGGREGATIONS, BACKBONES, part

NORM_EPSILON = 1e-12  # of the squared norm, TensorFlow's l2_normalize
# Keras's dtype policies of the convolutions
PRECISIONS = {"float32": "float32", "tf32": "float32", "bfloat16": "mixed_bfloat16"}
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


def spatial_aware(view, num_embeddings, seed, policy):
    """The paper's aggregation (section 3.2): a 2x2 max-pool, then spatial-aware embeddings.

    A line of `settings.AGGREGATIONS`, as `global_max`.

    Args:
        view: "sat" or "grd", for the names of the layers.
        num_embeddings: M.
        seed: of the initial weights; None draws one.
        policy: Keras's dtype policy of what may be less precise than float32.

    Returns:
        Function (or layer): (B, H, W, C) maps -> (B, M*C) features.
    """
    pool = keras.layers.MaxPooling2D(2, padding="same", data_format="channels_last", name=f"pool_{view}", dtype=policy)
    embedding = SpatialAwareEmbedding(num_embeddings, seed, name=f"spatial_{view}", dtype="float32")
    return lambda maps: embedding(pool(maps))


def global_max(view, num_embeddings, seed, policy):
    """The paper's baseline VGG_gp: the maximum of each channel, (B, H, W, C) -> (B, C); arguments as `spatial_aware`."""
    return keras.layers.GlobalMaxPooling2D(data_format="channels_last", name=f"pool_{view}", dtype=policy)


def branch(view, image_shape, backbone, aggregation):
    """One branch of a network (paper, figure 2).

    Args:
        view: "sat" or "grd", for the names of the layers.
        image_shape: (height, width) of the images.
        backbone: layer from images to maps, made by a line of `settings.BACKBONES`.
        aggregation: function from maps to features, made by a line of `settings.AGGREGATIONS`.

    Returns:
        keras.Model: (B, height, width, 3) images, BGR, 0..255 -> (B, D) float32 descriptors of length 1.
    """
    images = keras.Input((*image_shape, 3), dtype="float32", name=f"{view}_images")
    maps = backbone(images)
    features = aggregation(maps)
    descriptors = L2Normalization(name=f"normalize_{view}", dtype="float32")(features)
    return keras.Model(images, descriptors, name=f"branch_{view}")


def network(config, keep_prob=0.8, seed=None, precision="float32"):
    """Both branches of a network, which share no weights.

    Args:
        config: settings.NetworkConfig.
        keep_prob: share of activations that dropout keeps.
        seed: of the random weights and of dropout; None draws one.
        precision: "bfloat16" for the backbone's convolutions in bfloat16, else "float32" or "tf32" (which
            `backend.compute_in` sets); weights, sums over positions and descriptors are float32 either way.

    Returns:
        keras.Model: [sat, grd] images, BGR, 0..255 -> [sat, grd] descriptors, (B, D) float32 each, where D is
        512 * width_multiplier, times M for SAFA_M.
    """
    policy = PRECISIONS[precision]
    aggregation, num_embeddings = config.aggregation
    branches = []
    for number, (view, shape) in enumerate((("sat", config.sat_shape), ("grd", config.grd_shape))):
        own_seed = None if seed is None else 2 * seed + number
        branches.append(
            branch(
                view,
                shape,
                part(BACKBONES, config.backbone)(view, config.width_multiplier, keep_prob, own_seed, policy),
                part(AGGREGATIONS, aggregation)(view, num_embeddings, own_seed, policy),
            )
        )
    sat, grd = branches
    return keras.Model([sat.input, grd.input], [sat.output, grd.output], name=config.network_type)


def branches(network):
    """The two branches of a network, each alone: keras.Model of satellite images, keras.Model of panoramas."""
    return [keras.Model(image, descriptors) for image, descriptors in zip(network.inputs, network.outputs, strict=True)]
