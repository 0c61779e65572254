"""The parts of a network and its loss, by name. A new one is a function here and a line in its dict (README, "Change it").

Each function imports what it needs when it is called: flags are checked before TensorFlow is imported.
"""

import typing

if typing.TYPE_CHECKING:
    import keras

    from spatial_net import Network

# Keras's dtype policies of the convolutions.
PRECISIONS = {"float32": "float32", "tf32": "float32", "bfloat16": "mixed_bfloat16"}


class Backbone(typing.Protocol):
    """Makes the backbone of branch "sat" or "grd": a Keras layer from (B, H, W, 3) float32 images, BGR, 0..255, to maps.

    `width_multiplier` is a factor on its channels, `keep_prob` the share of activations that dropout keeps; `seed` is that of
    weights and dropout. Layers that name no dtype compute in that of --precision.

    The layer may have `fill`, (3,) BGR of what an image does not show (default: VGG16's mean), and `load_imagenet()` for --init
    imagenet. Its `call` gets `training`, and `cursor` (of `VGG.Dropout`) if it takes one. Regularizers, `add_loss` are refused.
    """

    def __call__(self, branch: str, width_multiplier: float, keep_prob: float, seed: int) -> "keras.layers.Layer": ...


class Aggregation(typing.Protocol):
    """Makes the aggregation of a branch: a Keras layer from (B, h, w, C) maps to (B, D) features.

    `number` is the one after the underscore of a name that ends in _M, 8 of SAFA_8, else None; the others as of Backbone.
    """

    def __call__(self, branch: str, number: int | None, seed: int) -> "keras.layers.Layer": ...


class Loss(typing.Protocol):
    """Makes the loss of a batch: a function of sat and grd, (B, D) float32 descriptors of length 1, and negatives; () float32.

    Slot i of both is one place. `negatives`: (B, B) float32, 1 where satellite i is a negative of ground j; None: all but the
    diagonal. Of coordinates it is all that a loss sees (`training.step.negatives_of`). They are given in this order, without
    names. A Keras layer is a loss too: its weights are trained, and like its other variables, which it may assign, saved.
    """

    def __call__(self) -> typing.Callable: ...


class Sampler(typing.Protocol):
    """The order of an epoch's pairs, (Q,) int64, each row once; sat and grd: all descriptors as the epoch, from 1, begins."""

    def __call__(self, pairs, epoch: int, seed: int, batch_size: int, sat: typing.Any, grd: typing.Any): ...


def vgg16(branch, width_multiplier, keep_prob, seed):
    """The paper's backbone."""
    from VGG import VGG16

    return VGG16(width_multiplier, keep_prob, seed, name=f"VGG_{branch}")


def safa(branch, number, seed):
    """The paper's aggregation, with `number` spatial-aware embeddings."""
    from spatial_net import spatial_aware

    return spatial_aware(number, seed)


def vgg_gp(branch, number, seed):
    """The paper's baseline, global max-pooling."""
    from spatial_net import global_max

    return global_max()


def soft_margin_triplet():
    """The paper's loss."""
    from triplet_loss import triplet_loss

    return triplet_loss


BACKBONES: dict[str, Backbone] = {"VGG16": vgg16}
AGGREGATIONS: dict[str, Aggregation] = {"SAFA_M": safa, "VGG_gp": vgg_gp}  # M: a number, of embeddings
LOSSES: dict[str, Loss] = {"soft_margin_triplet": soft_margin_triplet}
SAMPLERS: dict[str, Sampler | None] = {"shuffled": None}  # None: `input_data.epoch_order`, the paper's


def build_network(config, keep_prob=0.8, seed=0, precision="float32") -> "Network":
    """The network that a settings.NetworkConfig names.

    Args:
        keep_prob, seed: share of activations that dropout keeps; of the random weights and of dropout.
        precision: "bfloat16" for the convolutions in bfloat16, else "float32" or "tf32" (which `backend.compute_in` sets);
            weights, sums over positions and descriptors are float32 either way.
    """
    import keras

    from spatial_net import network

    (aggregation, number), seeds = config.aggregation, {"sat": 2 * seed, "grd": 2 * seed + 1}

    def part(make, *settings):
        keras.config.set_dtype_policy(PRECISIONS[precision])  # of layers that name none
        try:
            return make(*settings)
        finally:
            keras.config.set_dtype_policy("float32")  # as `backend.compute_in`

    return network(
        config.sat_shape,
        config.grd_shape,
        lambda branch: part(BACKBONES[config.backbone], branch, config.width_multiplier, keep_prob, seeds[branch]),
        lambda branch: part(AGGREGATIONS[aggregation], branch, number, seeds[branch]),
        bool(config.shared),
    )
