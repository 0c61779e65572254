"""The authors' TensorFlow 1 checkpoints: names, shapes, Adam's slots, both ways (method: published code)."""
import os

import backend  # noqa: F401

import numpy as np
import tensorflow as tf

from checkpoint_files import DATA, INDEX
from errors import UserError
from image_files import PARTIAL

MARK = "VGG_grd/conv1_1/weights"  # a variable that every published checkpoint has
STEP = "Variable"  # the published code never named its step counter
BETAS = {"beta1_power": 0.9, "beta2_power": 0.999}
SLOTS = {"Adam": "momentum", "Adam_1": "velocity"}  # published suffix: Keras's name
NAMES = {"kernel": "weights", "bias": "biases"}


def published_name(path):
    """The published name of one of our weights: "VGG_sat/conv1_1/kernel" -> "VGG_sat/conv1_1/weights"."""
    layer, _, name = path.rpartition("/")
    return f"{layer}/{NAMES.get(name, name)}"


def is_bookkeeping(name):
    """Whether a published variable belongs to Adam or counts steps, rather than to the network."""
    return name == STEP or name in BETAS or name.rpartition("/")[2] in SLOTS


def optimizer_state(reader, variables):
    """Adam's moments and step from a published training checkpoint.

    Args:
        reader: of `tf.train.load_checkpoint`.
        variables: {our path: tf.Variable} of the network's weights.

    Returns:
        step: number of steps taken.
        moments: {(our path, "momentum" or "velocity"): array}.

    Raises:
        UserError: some are missing or misshapen, or step and beta2_power contradict each other.
    """
    shapes = reader.get_variable_to_shape_map()
    wanted = {(path, ours): (f"{published_name(path)}/{suffix}", list(variable.shape))
              for path, variable in variables.items() for suffix, ours in SLOTS.items()}
    lacking = [name for name, shape in wanted.values() if shapes.get(name) != shape]
    lacking += [name for name in (STEP, *BETAS) if name not in shapes]
    if lacking:
        raise UserError(f"{len(lacking)} of Adam's variables are missing or misshapen, such as {lacking[0]}: the "
                        "checkpoint holds no training state; use it with --init instead")
    step = int(reader.get_tensor(STEP))
    power, expected = float(reader.get_tensor("beta2_power")), BETAS["beta2_power"] ** (step + 1)
    if not np.isclose(power, expected, rtol=0.02, atol=1e-30):
        raise UserError(f"{STEP} counts {step} steps, but beta2_power is {power:.3g} and not {expected:.3g}: "
                        "the training state is of another run; use it with --init instead")
    return step, {key: reader.get_tensor(name) for key, (name, _) in wanted.items()}


def write(prefix, weights, step=0, moments=None):
    """Write a checkpoint that the published code restores with its own `Saver`: all variables that it looks for.

    Args:
        prefix: of the files `prefix`.index and `prefix`.data-00000-of-00001.
        weights: {our path: float32 array}.
        step: number of Adam steps taken.
        moments: as of `optimizer_state`; None: Adam has not begun, all zero.
    """
    tensors = {STEP: np.int32(step)}
    tensors |= {name: np.float32(beta ** (step + 1)) for name, beta in BETAS.items()}
    for path, value in weights.items():
        tensors[published_name(path)] = value
        for suffix, ours in SLOTS.items():
            tensors[f"{published_name(path)}/{suffix}"] = (
                np.zeros_like(value) if moments is None else moments[path, ours])
    names = sorted(tensors)
    partial = prefix + PARTIAL
    tf.raw_ops.SaveV2(prefix=partial, tensor_names=names, shape_and_slices=[""] * len(names),
                      tensors=[tf.constant(tensors[name]) for name in names])
    for ending in (DATA, INDEX):  # the index last: without it there is no checkpoint
        os.replace(partial + ending, prefix + ending)
