"""A run's checkpoints, the last three and the best, and what is wrong with one that does not fit."""

from runtime import backend  # noqa: F401
from runtime.errors import UserError, first_line
from runtime.files import check_space, write_whole

import io
import itertools
import os

import numpy as np
import tensorflow as tf

from training import published_checkpoint
from training.checkpoint_files import (
    INDEX,
    KERAS,
    TENSORFLOW,
    find_checkpoint,
    remove_checkpoint,
    remove_leftovers,
    run_checkpoints,
)
from training.run_folder import BEST
from training.tensorflow_files import literal_prefix, open_checkpoint, whole_checkpoint
from VGG import POSITION

CHECKPOINTS_KEPT = 3
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


class RunCheckpoints:
    """Saves and restores all that a training run needs to continue as if it had not been stopped.

    That is the weights, Adam's moments and step, and the position in the data; dropout and the order of the pairs
    follow from these and the seed. Only the chief's process touches files; the others get its values.

    Args:
        folder: the run's, in which no other process may be training.
        network: keras.Model.
        optimizer: keras.optimizers.Optimizer, built for the network's weights.
        distribution: distribution.Distribution.

    Attributes:
        epoch: tf.Variable, int64: finished epochs.
        steps: tf.Variable, int64: steps taken of the epoch after these.
        loss_sum: tf.Variable, float64: sum of these steps' losses.
        best_recall: tf.Variable, float64: R@1 of the best epoch so far, a fraction; -1 before the first.
    """

    def __init__(self, folder, network, optimizer, distribution):
        self.folder, self.best_folder = folder, os.path.join(folder, BEST)
        with distribution.strategy.scope():
            self.epoch, self.steps = (tf.Variable(0, dtype=tf.int64) for _ in range(2))
            self.loss_sum = tf.Variable(0.0, dtype=tf.float64)
            self.best_recall = tf.Variable(-1.0, dtype=tf.float64)
        self._distribution = distribution
        self._weights = weights = network_variables(network)
        self._slots = {variable.path: variable.value for variable in optimizer.variables}
        if not distribution.is_chief:
            return
        self._all = tf.train.Checkpoint(
            network=weights,
            optimizer=self._slots,
            epoch=self.epoch,
            steps=self.steps,
            loss_sum=self.loss_sum,
            best_recall=self.best_recall,
        )
        self._best = tf.train.Checkpoint(network=weights)
        for checkpoint in self._all, self._best:
            checkpoint.save_counter.assign(0)  # makes it: the checkpoints of earlier versions have one
        for each in filter(os.path.isdir, (folder, self.best_folder)):
            remove_leftovers(each)

    def share(self):
        """Give all processes the chief's weights, optimizer and progress."""
        self._distribution.share_chiefs_values(
            [*self._weights.values(), *self._slots.values(), self.epoch, self.steps, self.loss_sum, self.best_recall]
        )

    def check_space(self):
        """Refuse to begin a run whose checkpoints will not fit on the disk.

        Raises:
            UserError: says how much they need and how much is free.
        """
        weights = sum(variable.shape.num_elements() for variable in self._weights.values()) * 4
        # With Adam's two moments; a new one is written before an old one goes.
        needed = weights * (3 * (CHECKPOINTS_KEPT + 1) + 2)
        check_space(self.folder, needed, "the run's checkpoints", "free some space, or use another --model_dir")

    def restore(self):
        """Restore the newest checkpoint that is whole; one that a dying machine damaged is named and passed over.

        Returns:
            path: of the checkpoint, or None where there is none.
            notes: lines on what was passed over or put aside.

        Raises:
            UserError: there are checkpoints, and none can be read; a run never begins among them.
        """
        notes = []
        for number in reversed(run_checkpoints(self.folder)):
            prefix = _prefix(self.folder, number)
            try:
                find_checkpoint(prefix)
                with literal_prefix(prefix) as literal:
                    self._all.read(literal).assert_consumed()
            except Exception as error:  # TensorFlow's readers raise many kinds for broken bytes
                notes.append(f"{prefix}: cannot be read ({first_line(error)}); going back to the one before")
            else:
                return prefix, notes
        found = sorted(name for name in os.listdir(self.folder) if name.endswith(INDEX) or ".data-" in name)
        if found:
            raise UserError(
                f"{self.folder}: holds {found[-1]}, but no checkpoint that the run can go on from; restore "
                "the files from a copy, move them to another folder, or use another --model_dir"
            )
        return None, notes + self._put_best_aside()

    def save(self, best=False):
        """Save the run; `best` says whether these weights are the best so far.

        Raises:
            UserError: they cannot be written, or are not finite; the checkpoints before them stay whole.
        """
        if not self._distribution.is_chief:
            return
        if not all(np.isfinite(variable.numpy()).all() for variable in self._weights.values()):
            raise UserError(
                f"{self.folder}: the weights are no longer finite and are not saved; those of "
                "the checkpoints before are. Use a lower --learning_rate with another --model_dir"
            )
        if best:
            os.makedirs(self.best_folder, exist_ok=True)
            self._write(self._best, self.best_folder, 1)
        self._write(self._all, self.folder, CHECKPOINTS_KEPT)

    def _write(self, checkpoint, folder, kept):
        numbers = run_checkpoints(folder)
        # A number of its own: a checkpoint that is written over could be lost.
        numbers.append(1 + max(numbers, default=0))
        with whole_checkpoint(_prefix(folder, numbers[-1])) as prefix:
            checkpoint.write(prefix)
        for number in numbers[:-kept]:
            remove_checkpoint(_prefix(folder, number))
        # For tf.train.latest_checkpoint and the like; this project reads the folder itself.
        lines = [
            f'model_checkpoint_path: "{_name(numbers[-1])}"',
            *(f'all_model_checkpoint_paths: "{_name(number)}"' for number in numbers[-kept:]),
            "",
        ]
        write_whole(os.path.join(folder, "checkpoint"), "\n".join(lines).encode())

    def _put_best_aside(self):
        """Keep the best weights of a run whose other checkpoints are gone: they are not this run's."""
        if not os.path.isdir(self.best_folder) or not os.listdir(self.best_folder):
            return []
        kept = next(
            path
            for path in (f"{self.best_folder}.previous-{number}" for number in itertools.count(1))
            if not os.path.exists(path)
        )
        os.rename(self.best_folder, kept)
        return [f"{self.best_folder}: held the best weights of a run that has no other checkpoints; kept as {kept}"]


def _name(number):
    return f"ckpt-{number}"


def _prefix(folder, number):
    return os.path.join(folder, _name(number))


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
            network.load_weights(path)
            tensors = {name: variable.numpy() for name, variable in variables.items()}
            network.set_weights(before)
        elif kind == TENSORFLOW:
            with open_checkpoint(path) as reader:
                shapes = reader.get_variable_to_shape_map()
                keys = _keys(shapes, variables, path, description)
                tensors = {name: reader.get_tensor(key) for name, key in keys.items()}
                if published_checkpoint.MARK in shapes:
                    aside = sorted(set(shapes) - set(keys.values()))
        else:
            raise UserError(f"{path}: NumPy files hold VGG16's starting weights only; use it with --init")
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
    return f"{path}: {len(names)} variables of the optimizer ({_few(names)}) are left aside; only the weights are used"


def _keys(shapes, variables, path, description):
    """{our name of a weight: its key in a TensorFlow checkpoint}, ours or the authors', after accounting for all."""
    if published_checkpoint.MARK in shapes:
        key_of = published_checkpoint.published_name
        extra = [key for key, shape in shapes.items() if not published_checkpoint.is_bookkeeping(key, shape)]
    else:

        def key_of(name):
            return _our_key("network", name)

        extra = [key for key in shapes if key.startswith("network/")]
        if not extra:
            raise UserError(
                f"{path}: a TensorFlow checkpoint, but of something else (it holds "
                f"{_few(sorted(shapes))}); name a checkpoint of this project or the authors'"
            )
    keys = {name: key_of(name) for name in variables}
    lacking = [name for name, key in keys.items() if key not in shapes]
    misshapen = [
        f"{name} {shapes[key]} instead of {list(variables[name].shape)}"
        for name, key in keys.items()
        if key in shapes and shapes[key] != list(variables[name].shape)
    ]
    unexpected = sorted(set(extra) - set(keys.values()))
    if lacking or misshapen or unexpected:
        counts = [
            f"{len(names)} {what} ({_few(names)})"
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


def slot_path(name, moment):
    """Path of the variable in which Keras's Adam keeps a weight's "momentum" or "velocity"."""
    return f"adam/{name.replace('/', '_')}_{moment}"


def _our_key(part, path):
    """Key of a variable in a `tf.train.Checkpoint`, under "network" or "optimizer"."""
    return f"{part}/{path.replace('.', '..').replace('/', '.S')}/.ATTRIBUTES/VARIABLE_VALUE"


def _few(names):
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
