"""Starting weights of a network: random, VGG16's from ImageNet (paper, section 4), or a checkpoint's."""

import io
import itertools
import os
import re
import zipfile

import h5py
import keras
import numpy as np

from safa.runtime.errors import UserError, first_line
from safa.training.checkpoint_files import KERAS, KERAS_MODEL, NUMPY, TENSORFLOW, array_names, use_checkpoint
from safa.training.variables import ADAM, STEP, Averages, adam_variables
from safa.training.weights import load_weights, optimizer_state
from VGG import BLOCKS, VGG16

NAMES = [name for block in BLOCKS for name, _ in block]
KERAS_FILE = "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
SOURCES = f"Keras's {KERAS_FILE}, vgg16_weights.npz, or the authors' initial_model.ckpt"
# Where `keras.applications` downloads it from, and its MD5 digest.
DOWNLOADS = "https://storage.googleapis.com/tensorflow/keras-applications/vgg16/"
HASH = "6d6bbae143d832006294945121d1f1fc"
DOWNLOAD = f"get one of these where there is internet and name it with --init: {SOURCES}; or use --init random"


def initialise(network, init, description, authors_model=None):
    """Give both branches their starting weights.

    Args:
        network: spatial_net.Network, which has random weights.
        init: of TrainingConfig. "random" makes both backbones alike, as ImageNet's weights do, if their weights have the same
            shapes; with "imagenet", a backbone that is not VGG16 loads its own by its method `load_imagenet`.
        description: of the network, for messages.
        authors_model: where the authors' initial model may be.

    Returns:
        Lines on what was taken, and what was skipped.

    Raises:
        UserError: the weights cannot be had or do not fit.
    """
    backbones = network.sat.backbone, network.grd.backbone
    if init == "random":
        # Both begin alike: otherwise their descriptors have nothing in common, and some seeds need half an epoch for that.
        sat, grd = (backbone.trainable_variables for backbone in backbones)
        if [each.shape for each in sat] != [each.shape for each in grd]:
            return ["the backbones of the two views differ, and so do their random weights"]
        for own, others in zip(sat, grd, strict=True):
            others.assign(own)
        return []

    def start_from(path, kind):
        if kind == TENSORFLOW or kind == KERAS and _is_network_weights(path):
            return list(filter(None, [load_weights(network, path, kind, description)]))
        _assign_vgg16(network, path, read_vgg16(path, kind))
        return []

    if init not in ("default", "imagenet"):
        return use_checkpoint(init, start_from)
    notes = []
    if init == "default" and authors_model is not None and os.path.exists(f"{authors_model}.index"):
        try:
            notes = use_checkpoint(authors_model, start_from)
            return [f"starting weights: {authors_model}, the authors' (--init imagenet for ImageNet's)", *notes]
        except UserError as error:
            notes = [f"{error}. ImageNet's weights are used"]
    if all(isinstance(backbone, VGG16) for backbone in backbones):
        _assign_vgg16(network, "imagenet", _downloaded_vgg16())
        return notes
    for backbone in backbones:
        if not hasattr(backbone, "load_imagenet"):
            raise UserError("--init: the backbone has no method load_imagenet; use --init random or a checkpoint")
        backbone.load_imagenet()
    return notes


def continue_published(network, optimizer, path, description):
    """Take over weights, Adam's moments and step from a published training checkpoint; returns the number of steps taken.

    Moving averages, which it lacks, begin with its weights. Raises UserError if it does not fit, or has no training state.
    """

    def take_over(path, kind):
        is_published = load_weights(network, path, kind, description) is not None
        return optimizer_state(path, network) if is_published else (0, None)

    step, moments = use_checkpoint(path, take_over)
    if moments is None:
        raise UserError(f"{path}: holds no training state of the authors' code; use it with --init instead")
    kept = adam_variables(network, optimizer)
    kept[STEP].assign(step)
    for (name, moment), value in moments.items():
        kept[f"{ADAM}{name}/{moment}"].assign(value)
    for weight, average in Averages(network, optimizer).pairs:  # Adam begins them only at step 0
        average.assign(weight)
    return step


def _is_network_weights(path):
    try:
        with h5py.File(path) as file:
            return "sat" in file and "grd" in file
    except OSError:
        return False  # damaged: Keras says how


def read_vgg16(path, kind):
    """VGG16's convolutions, {"conv1_1": (kernel, bias), ...}, float32, for BGR images less the mean.

    `path`, `kind`: of a file that `find_checkpoint` found: NUMPY, KERAS_MODEL or KERAS. Raises UserError if it holds something
    else, or is damaged.
    """
    try:
        if kind == NUMPY:
            with np.load(path, allow_pickle=False) as arrays:
                weights = {name: (arrays[f"{name}_W"], arrays[f"{name}_b"]) for name in NAMES}
        elif kind == KERAS_MODEL:
            with zipfile.ZipFile(path) as archive:
                weights = _of_keras(path, io.BytesIO(archive.read("model.weights.h5")))
        else:
            weights = _of_keras(path, path)
    except UserError:
        raise
    except Exception as error:  # the readers raise many kinds for broken bytes
        raise UserError(f"{path}: not VGG16's weights, or damaged ({first_line(repr(error))}); use {SOURCES}") from None
    return weights | {"conv1_1": _for_bgr(*weights["conv1_1"])}


def _of_keras(path, content):
    """The 3x3 convolutions of an HDF5 file, in the order of their layers' names, in which numbers count as such."""
    layers, names = {}, array_names(path, content)
    with h5py.File(content) as file:
        for name in names:
            if file[name].ndim in (1, 4) and "optimizer" not in name:
                order = (int(part) if part.isdigit() else part for part in re.split(r"(\d+)", os.path.dirname(name)))
                layers.setdefault(tuple(order), {})[file[name].ndim] = file[name][()]
    convolutions = [layers[order] for order in sorted(layers) if 4 in layers[order]]  # others have biases too
    if len(convolutions) != len(NAMES):
        raise ValueError(f"{len(convolutions)} convolutions instead of {len(NAMES)}")
    return {name: (layer[4], layer[1]) for name, layer in zip(NAMES, convolutions, strict=True)}


def _for_bgr(kernel, bias):
    """A first convolution for BGR images: vgg16_weights.npz has it for RGB.

    VGG16's first kernels weigh red more than blue: their absolute values add up to 98.2 and 86.6.
    """
    red_first = kernel.ndim == 4 and np.abs(kernel[:, :, 0]).sum() > np.abs(kernel[:, :, -1]).sum()
    return kernel[:, :, ::-1] if red_first else kernel, bias


def _downloaded_vgg16():
    try:
        path = keras.utils.get_file(KERAS_FILE, DOWNLOADS + KERAS_FILE, cache_subdir="models", file_hash=HASH)
    except Exception as error:  # Keras raises bare Exceptions when a download fails
        raise UserError(f"--init: VGG16's ImageNet weights cannot be downloaded ({first_line(error)}); {DOWNLOAD}") from None
    return read_vgg16(path, KERAS)


def _assign_vgg16(network, init, weights):
    backbones = network.sat.backbone, network.grd.backbone
    if not all(isinstance(backbone, VGG16) for backbone in backbones):
        raise UserError(f"--init {init}: VGG16's weights, for a network with another backbone; use random or a checkpoint")
    for name, layer in itertools.chain.from_iterable(backbone.convolutions.items() for backbone in backbones):
        found, expected = ([tuple(array.shape) for array in arrays] for arrays in (weights[name], (layer.kernel, layer.bias)))
        if found != expected:
            what = f"{name} has shapes {found}, and in this network {expected}"
            raise UserError(f"--init {init}: {what}; ImageNet's weights need --width_multiplier 1")
        layer.kernel.assign(weights[name][0])
        layer.bias.assign(weights[name][1])
