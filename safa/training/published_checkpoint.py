"""The authors' TensorFlow 1 checkpoints: names, shapes, Adam's slots, both ways (method: published code)."""

import itertools
import re

import numpy as np
from keras.layers import GlobalMaxPooling2D

from safa.runtime.errors import UserError
from safa.training.tensorflow_files import write_checkpoint
from safa.training.variables import network_weights
from spatial_net import SpatialAwareEmbedding

MARK = "VGG_grd/conv1_1/weights"  # a variable that every published checkpoint has
STEP = "Variable"  # the published code never named its step counter
BETAS = {"beta1_power": 0.9, "beta2_power": 0.999}
SCOPES = "train/", ""  # of BETAS: the authors' training scripts make Adam inside the first, other scripts in none
SLOTS = {"Adam": "momentum", "Adam_1": "velocity"}  # published suffix: Keras's name
# Last part of a name that an optimizer gives; TensorFlow numbers further ones.
SLOT, COUNTER = re.compile(r"Adam(_\d+)?"), re.compile(r"(beta[12]_power|Variable|global_step)(_\d+)?")
SPATIAL = "weights1", "biases1", "weights2", "biases2"  # of a spatial-aware embedding, in the order in which it makes them


def published_names(network):
    """The published names of our weights: {"sat/backbone/00_kernel": "VGG_sat/conv1_1/weights", ...}.

    Weights of parts that the authors' code does not have are left out.
    """
    published = []
    for name, branch in (("sat", network.sat), ("grd", network.grd)):
        convolutions = getattr(branch.backbone, "convolutions", {})
        published.append([f"VGG_{name}/{each}/{kind}" for each in convolutions for kind in ("weights", "biases")])
        published.append([f"spatial_{name}/{each}" for each in SPATIAL] if branch.aggregation.trainable_variables else [])
    ours = network_weights(network)
    return dict(zip(ours, itertools.chain(*published), strict=False)) if len(ours) == sum(map(len, published)) else {}


def is_bookkeeping(name, shape):
    """Whether a published variable belongs to an optimizer or counts steps, in any scope, and not to the network."""
    last = name.rpartition("/")[2]
    return bool(SLOT.fullmatch(last) or COUNTER.fullmatch(last) and not shape)


def optimizer_state(path, reader, network):
    """Adam's moments and step from a published training checkpoint, in whatever scope they are.

    Args:
        path: of the checkpoint, for messages.
        reader: tf.train.CheckpointReader.
        network: spatial_net.Network.

    Returns:
        step: number of steps taken; 0 where the file holds weights only.
        moments: {(our name of a weight, "momentum" or "velocity"): array}; None there.

    Raises:
        UserError: some are missing, misshapen or twice there with different values, or step and beta2_power contradict
            each other.
    """
    shapes, lacking = reader.get_variable_to_shape_map(), []
    if not any(SLOT.fullmatch(name.rpartition("/")[2]) for name in shapes):
        return 0, None

    def tensor(name, shape):
        keys = [key for key in sorted(shapes) if key == name or key.endswith(f"/{name}")]
        tensors = [reader.get_tensor(key) for key in keys if shapes[key] == shape]
        if not tensors:
            lacking.append(name)
            return np.zeros(shape)
        if any(not np.array_equal(each, tensors[0]) for each in tensors):
            raise UserError(f"{path}: {' and '.join(keys)} differ; use it with --init instead")
        return tensors[0]

    step, powers = tensor(STEP, []), {name: tensor(name, []) for name in BETAS}
    published = published_names(network)
    moments = {
        (ours, moment): tensor(f"{published[ours]}/{slot}", list(variable.shape))
        for ours, variable in network_weights(network).items()
        for slot, moment in SLOTS.items()
    }
    if lacking:
        what = f"{len(lacking)} of Adam's variables are missing or misshapen, the first {lacking[0]}"
        raise UserError(f"{path}: {what}; use it with --init instead")
    power, expected = float(powers["beta2_power"]), BETAS["beta2_power"] ** (step + 1)
    if not np.isclose(power, expected, rtol=0.02, atol=1e-30):
        what = f"{STEP} counts {step} steps, but beta2_power is {power:.3g} and not {expected:.3g}"
        raise UserError(f"{path}: {what}; use it with --init instead")
    return int(step), moments


def write(prefix, network, step=0, moments=None):
    """Write a checkpoint that the published code restores with its own `Saver`: all variables that it looks for.

    Args:
        prefix: of the files `prefix`.index and `prefix`.data-00000-of-00001.
        network: spatial_net.Network of parts that the authors' code has.
        step: number of Adam steps taken.
        moments: as of `optimizer_state`; None: Adam has not begun, all zero.

    Raises:
        UserError: the network has other parts, or the files cannot be written.
    """
    tensors = {STEP: np.int32(step)}
    tensors |= {scope + name: np.float32(beta ** (step + 1)) for name, beta in BETAS.items() for scope in SCOPES}
    published, parts = published_names(network), (network.sat.aggregation, network.grd.aggregation)
    # One without weights may be anybody's, and would be read as VGG_gp.
    known = all(isinstance(getattr(part, "layers", [part])[-1], (SpatialAwareEmbedding, GlobalMaxPooling2D)) for part in parts)
    if not (published and known):
        raise UserError(f"{prefix}: the authors' code has only VGG16 with SAFA_M or VGG_gp; write Keras weights instead")
    for ours, variable in network_weights(network).items():
        value = variable.numpy()
        tensors[published[ours]] = value
        for slot, moment in SLOTS.items():
            tensors[f"{published[ours]}/{slot}"] = np.zeros_like(value) if moments is None else moments[ours, moment]
    write_checkpoint(prefix, tensors)
