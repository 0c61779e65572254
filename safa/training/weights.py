"""A network's weights from files and into them: ours, the authors' and Keras's."""

import hashlib
import io
import warnings

import numpy as np

from safa.runtime.errors import UserError, first_few, first_line
from safa.runtime.files import write_whole
from safa.training import published_checkpoint
from safa.training.checkpoint_files import KERAS, TENSORFLOW
from safa.training.tensorflow_files import open_checkpoint
from VGG import POSITION

PARTS = "VGG_", "spatial_"  # how the names of all weights begin


def network_weights(network):
    """{path: tf.Variable} of what Adam trains: "VGG_sat/conv1_1/kernel" and the like."""
    return {variable.path: variable.value for variable in network.trainable_variables}


def network_variables(network):
    """The same of all that a network learns: its weights and, for instance, the means of a BatchNormalization.

    Dropout's position is no part of it: it follows from the step.
    """
    states = [variable for variable in network.non_trainable_variables if variable.name != POSITION]
    return network_weights(network) | {variable.path: variable.value for variable in states}


def weights_digest(network):
    """What a network has learned, as 16 hexadecimal digits: descriptors of the same weights can be used again."""
    digest = hashlib.sha256()
    for name, variable in sorted(network_variables(network).items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(variable.numpy()))
    return digest.hexdigest()[:16]


class Averages:
    """A context in which a network has the moving averages of its weights that Adam keeps, if it keeps any.

    Afterwards the network has its own weights again.

    Args:
        network: keras.Model.
        optimizer: keras.optimizers.Optimizer, built for the network's weights.
    """

    def __init__(self, network, optimizer):
        kept = {variable.path: variable.value for variable in optimizer.variables}
        weights = network_weights(network)
        self._pairs = [(weight, kept[average_path(name)]) for name, weight in weights.items() if average_path(name) in kept]
        self._own = None

    def __enter__(self):
        self._own = [weight.numpy() for weight, _ in self._pairs]
        for weight, average in self._pairs:
            weight.assign(average)

    def __exit__(self, *_):
        for (weight, _), own in zip(self._pairs, self._own, strict=True):
            weight.assign(own)


class _KerasFile(io.BytesIO):
    """A file of Keras weights in memory. Keras insists on the ending of its name."""

    def __str__(self):
        return "in_memory.weights.h5"


def write_keras_weights(path, network):
    """Write a network's weights as Keras does, the file whole or not at all.

    They are put together in memory: HDF5 crashes the process when a disk is full.

    Raises:
        OSError: the file cannot be written.
    """
    content = _KerasFile()
    network.save_weights(content)
    write_whole(path, content.getbuffer())


def load_weights(network, path, kind, description):
    """Load a network's weights from a file that `checkpoint_files.find_checkpoint` found.

    Args:
        network: keras.Model.
        path, kind: of the file.
        description: of the network, for messages.

    Returns:
        Names of the optimizer's variables in a checkpoint of the authors', which were left aside; else none.

    Raises:
        UserError: the file is damaged, holds another network, or weights that are not finite. Nothing is loaded then.
    """
    variables = network_variables(network)
    aside = []
    try:
        if kind == KERAS:
            before = network.get_weights()
            with warnings.catch_warnings():  # what does not fit is an error below
                warnings.simplefilter("ignore")
                network.load_weights(path)
            tensors = {name: variable.numpy() for name, variable in variables.items()}
            network.set_weights(before)
        else:
            with open_checkpoint(path) as reader:
                shapes = reader.get_variable_to_shape_map()
                keys = _keys(shapes, variables, path, description)
                tensors = {name: reader.get_tensor(key) for name, key in keys.items()}
                if published_checkpoint.MARK in shapes:
                    aside = sorted(set(shapes) - set(keys.values()))
    except UserError:
        raise
    except Exception as error:  # TensorFlow's and HDF5's readers raise many kinds for broken bytes
        raise UserError(
            f"{path}: cannot be read as weights of {description} ({first_line(error)}); it is damaged or "
            "another network's: copy or download it again, or use another one"
        ) from None
    wrong = [name for name, tensor in tensors.items() if not np.isfinite(tensor).all()]
    if wrong:
        raise UserError(
            f"{path}: {len(wrong)} weights are not finite, the first {wrong[0]}; the network that it holds "
            "has diverged: use an earlier checkpoint"
        )
    for name, tensor in tensors.items():
        variables[name].assign(tensor)
    return aside


def left_aside_note(path, names):
    """A line that says which variables of a checkpoint were not loaded, or None."""
    if not names:
        return None
    return f"{path}: {len(names)} variables of the optimizer ({first_few(names)}) are left aside; only the weights are used"


def _keys(shapes, variables, path, description):
    """{our name of a weight: its key in a TensorFlow checkpoint}, ours or the authors', after accounting for all."""
    if published_checkpoint.MARK in shapes:
        key_of = published_checkpoint.published_name
        extra = [key for key, shape in shapes.items() if not published_checkpoint.is_bookkeeping(key, shape)]
    else:

        def key_of(name):  # the averages of a run that keeps them are what it validates
            average = _our_key("optimizer", average_path(name))
            return average if average in shapes else _our_key("network", name)

        extra = [key for key in shapes if key.startswith("network/")]
        if not extra:
            raise UserError(
                f"{path}: a TensorFlow checkpoint, but of something else (it holds "
                f"{first_few(sorted(shapes))}); name a checkpoint of this project or the authors'"
            )
    keys = {name: key_of(name) for name in variables}
    lacking = [name for name, key in keys.items() if key not in shapes]
    misshapen = [
        f"{name} {shapes[key]} instead of {list(variables[name].shape)}"
        for name, key in keys.items()
        if key in shapes and shapes[key] != list(variables[name].shape)
    ]
    unexpected = sorted(set(extra) - set(keys.values()) - {_our_key("network", name) for name in variables})
    if lacking or misshapen or unexpected:
        counts = [
            f"{len(names)} {what} ({first_few(names)})"
            for what, names in (("missing", lacking), ("misshapen", misshapen), ("unexpected", unexpected))
            if names
        ]
        foreign = any(not key.removeprefix("network/").startswith(PARTS) for key in unexpected)
        raise UserError(
            f"{path}: not a checkpoint of {description}: {'; '.join(counts)}. "
            + (
                "It holds parts that no network of this project has; use another checkpoint"
                if foreign
                else "Name the network that it was trained as with --network_type, --polar and the sizes"
            )
        )
    return keys


def optimizer_state(path, kind, variables):
    """Adam's step and moments from a checkpoint of a training run, ours or the authors'.

    Args:
        path, kind: of the file, as of `checkpoint_files.find_checkpoint`.
        variables: of `network_weights`.

    Returns:
        step, {(name, "momentum" or "velocity"): array}; 0 and None where the file holds weights only.

    Raises:
        UserError: see `published_checkpoint.optimizer_state`.
    """
    if kind != TENSORFLOW:
        return 0, None
    with open_checkpoint(path) as reader:
        shapes = reader.get_variable_to_shape_map()
        if published_checkpoint.MARK in shapes:
            if not published_checkpoint.has_slots(shapes):
                return 0, None
            return published_checkpoint.optimizer_state(path, reader, variables)
        step_key = _our_key("optimizer", "adam/iteration")
        if step_key not in shapes:
            return 0, None
        return int(reader.get_tensor(step_key)), {
            (name, moment): reader.get_tensor(_our_key("optimizer", slot_path(name, moment)))
            for name in variables
            for moment in published_checkpoint.SLOTS.values()
        }


def average_path(name):
    """Path of the variable in which Keras's Adam keeps the moving average of a weight."""
    return f"adam/{name.replace('/', '_')}_average"


def slot_path(name, moment):
    """Path of the variable in which Keras's Adam keeps a weight's "momentum" or "velocity"."""
    return f"adam/{name.replace('/', '_')}_{moment}"


def _our_key(part, path):
    """Key of a variable in a `tf.train.Checkpoint`, under "network" or "optimizer"."""
    return f"{part}/{path.replace('.', '..').replace('/', '.S')}/.ATTRIBUTES/VARIABLE_VALUE"
