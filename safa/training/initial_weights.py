"""Starting weights of a network: random, VGG16's from ImageNet (paper, section 4), or a checkpoint's."""

import itertools

import keras

from safa.runtime.errors import UserError, first_line
from safa.training.checkpoint_files import KERAS, TENSORFLOW, use_checkpoint
from safa.training.variables import ADAM, STEP, adam_variables
from safa.training.weights import is_published, load_weights, optimizer_state, skipped_note
from VGG import VGG16

KERAS_FILE = "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
DOWNLOAD = f"get {KERAS_FILE} where there is internet and name it with --init, or use --init random"


def initialise(network, init, description):
    """Give both branches their starting weights.

    Args:
        network: spatial_net.Network, which has random weights.
        init: "random" makes both backbones alike, as ImageNet's weights do; "imagenet" takes `keras.applications`' VGG16,
            downloaded once by Keras; else a path: that file, or a checkpoint, all of which is
            taken. VGG16's weights expect BGR images less the mean, as `VGG.VGG16` makes them.
        description: of the network, for messages.

    Returns:
        A line on what was skipped, or None.

    Raises:
        UserError: the weights cannot be had or do not fit.
    """

    def start_from(path, kind):
        if kind == KERAS and not _is_network_weights(path):
            _assign_vgg16(network, init, _keras_vgg16(init))
        else:
            return skipped_note(path, load_weights(network, path, kind, description))
        return None

    if init == "imagenet":
        _assign_vgg16(network, init, _keras_vgg16(init))
    elif init == "random":
        _make_backbones_alike(network)
    else:
        return use_checkpoint(init, start_from)
    return None


def continue_published(network, optimizer, path, description):
    """Take over weights, Adam's moments and step from a published training checkpoint.

    Returns:
        Number of steps that were taken.

    Raises:
        UserError: the checkpoint does not fit, or holds no training state.
    """

    def take_over(path, kind):
        load_weights(network, path, kind, description)
        if kind != TENSORFLOW or not is_published(path):
            raise UserError(f"{path}: not a checkpoint of the authors' code; use it with --init instead")
        return path, *optimizer_state(path, network)

    path, step, moments = use_checkpoint(path, take_over)
    if moments is None:
        raise UserError(f"{path}: the checkpoint holds no training state; use it with --init instead")
    kept = adam_variables(network, optimizer)
    kept[STEP].assign(step)
    for (name, moment), value in moments.items():
        kept[f"{ADAM}{name}/{moment}"].assign(value)
    return step


def _make_backbones_alike(network):
    """Give the ground branch's backbone the weights of the satellite branch's.

    Else both images of a place begin with descriptors that have nothing in common, and some seeds need half an epoch of a toy
    town until the branches agree on anything.
    """
    sat, grd = network.sat.backbone, network.grd.backbone
    for own, other in zip(grd.trainable_variables, sat.trainable_variables, strict=True):
        own.assign(other)


def _is_network_weights(path):
    import h5py

    try:
        with h5py.File(path) as file:
            return "layers" in file and "block1_conv1" not in file
    except OSError:
        return False  # damaged: Keras says how


def _keras_vgg16(init):
    try:
        imagenet = keras.applications.VGG16(include_top=False, weights=init, input_shape=(32, 32, 3))
    except Exception as error:  # Keras raises bare Exceptions when a download fails, and h5py's for a broken file
        raise UserError(f"--init {init}: VGG16's ImageNet weights cannot be loaded ({first_line(error)}); {DOWNLOAD}") from None
    layers = [layer for layer in imagenet.layers if isinstance(layer, keras.layers.Conv2D)]
    # block1_conv1 is conv1_1
    return {f"conv{layer.name[5]}_{layer.name[-1]}": (layer.kernel.numpy(), layer.bias.numpy()) for layer in layers}


def _assign_vgg16(network, init, weights):
    backbones = network.sat.backbone, network.grd.backbone
    if not all(isinstance(backbone, VGG16) for backbone in backbones):
        raise UserError(f"--init {init}: VGG16's weights, for a network with another backbone; use random or a checkpoint")
    for name, layer in itertools.chain.from_iterable(backbone.convolutions.items() for backbone in backbones):
        if name not in weights or len(weights[name]) != 2:
            raise UserError(f"--init {init}: lacks {name}, kernel and bias; use Keras's file")
        found, expected = ([tuple(array.shape) for array in arrays] for arrays in (weights[name], (layer.kernel, layer.bias)))
        if found != expected:
            raise UserError(
                f"--init {init}: {name} has shapes {found}, and in this network {expected}; ImageNet weights need "
                "--width_multiplier 1"
            )
        layer.kernel.assign(weights[name][0])
        layer.bias.assign(weights[name][1])
