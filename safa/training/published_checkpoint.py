"""The authors' TensorFlow 1 checkpoints: names, shapes, Adam's slots, both ways (method: published code)."""

import re

import numpy as np
import tensorflow as tf

from safa.runtime.errors import UserError
from safa.training.tensorflow_files import whole_checkpoint

MARK = "VGG_grd/conv1_1/weights"  # a variable that every published checkpoint has
STEP = "Variable"  # the published code never named its step counter
BETAS = {"beta1_power": 0.9, "beta2_power": 0.999}
SCOPES = "train/", ""  # of BETAS: the authors' training scripts make Adam inside the first, other scripts in none
SLOTS = {"Adam": "momentum", "Adam_1": "velocity"}  # published suffix: Keras's name
# Last part of a name that an optimizer gives; TensorFlow numbers further ones.
SLOT, COUNTER = re.compile(r"Adam(_\d+)?"), re.compile(r"(beta[12]_power|Variable|global_step)(_\d+)?")
NAMES = {"kernel": "weights", "bias": "biases"}


def published_name(path):
    """The published name of one of our weights: "VGG_sat/conv1_1/kernel" -> "VGG_sat/conv1_1/weights"."""
    layer, _, name = path.rpartition("/")
    return f"{layer}/{NAMES.get(name, name)}"


def is_bookkeeping(name, shape):
    """Whether a published variable belongs to an optimizer or counts steps, in any scope, and not to the network."""
    last = name.rpartition("/")[2]
    return bool(SLOT.fullmatch(last) or COUNTER.fullmatch(last) and not shape)


def has_slots(shapes):
    """Whether a published checkpoint holds an optimizer's moments, not weights alone."""
    return any(SLOT.fullmatch(name.rpartition("/")[2]) for name in shapes)


def optimizer_state(path, reader, variables):
    """Adam's moments and step from a published training checkpoint, in whatever scope they are.

    Args:
        path: of the checkpoint, for messages.
        reader: tf.train.CheckpointReader.
        variables: {our path: tf.Variable} of the network's weights.

    Returns:
        step: number of steps taken.
        moments: {(our path, "momentum" or "velocity"): array}.

    Raises:
        UserError: some are missing, misshapen or twice there with different values, or step and beta2_power contradict
            each other.
    """
    shapes = reader.get_variable_to_shape_map()
    lacking = []

    def tensor(name, shape):
        keys = [key for key in sorted(shapes) if key == name or key.endswith(f"/{name}")]
        tensors = [reader.get_tensor(key) for key in keys if shapes[key] == shape]
        if not tensors:
            lacking.append(name)
            return np.zeros(shape)
        if any(not np.array_equal(each, tensors[0]) for each in tensors):
            raise UserError(
                f"{path}: {' and '.join(keys)} differ, so nobody knows where training stood; use the "
                "checkpoint with --init instead"
            )
        return tensors[0]

    step, powers = tensor(STEP, []), {name: tensor(name, []) for name in BETAS}
    moments = {
        (ours, moment): tensor(f"{published_name(ours)}/{slot}", list(variable.shape))
        for ours, variable in variables.items()
        for slot, moment in SLOTS.items()
    }
    if lacking:
        raise UserError(
            f"{path}: {len(lacking)} of Adam's variables are missing or misshapen, the first {lacking[0]}: "
            "the checkpoint holds no training state; use it with --init instead"
        )
    power, expected = float(powers["beta2_power"]), BETAS["beta2_power"] ** (step + 1)
    if not np.isclose(power, expected, rtol=0.02, atol=1e-30):
        raise UserError(
            f"{path}: {STEP} counts {step} steps, but beta2_power is {power:.3g} and not {expected:.3g}: "
            "the training state is of another run; use it with --init instead"
        )
    return int(step), moments


def write(prefix, weights, step=0, moments=None):
    """Write a checkpoint that the published code restores with its own `Saver`: all variables that it looks for.

    Args:
        prefix: of the files `prefix`.index and `prefix`.data-00000-of-00001.
        weights: {our path: float32 array}.
        step: number of Adam steps taken.
        moments: as of `optimizer_state`; None: Adam has not begun, all zero.

    Raises:
        UserError: the files cannot be written.
    """
    tensors = {STEP: np.int32(step)}
    tensors |= {scope + name: np.float32(beta ** (step + 1)) for name, beta in BETAS.items() for scope in SCOPES}
    for path, value in weights.items():
        tensors[published_name(path)] = value
        for suffix, ours in SLOTS.items():
            tensors[f"{published_name(path)}/{suffix}"] = np.zeros_like(value) if moments is None else moments[path, ours]
    names = sorted(tensors)
    with whole_checkpoint(prefix) as literal:
        tf.raw_ops.SaveV2(
            prefix=literal,
            tensor_names=names,
            shape_and_slices=[""] * len(names),
            tensors=[tf.constant(tensors[name]) for name in names],
        )
