"""A run's checkpoints, the last three and the best, and what is wrong with one that does not fit."""
import os
import re
import shutil

import backend  # noqa: F401

import numpy as np
import tensorflow as tf

import published_checkpoint
from checkpoint_files import INDEX, KERAS, TENSORFLOW
from configuration import BEST
from errors import UserError, first_line
from image_files import write_whole

KEPT = 3


def network_variables(network):
    """{path, such as "VGG_sat/conv1_1/kernel": tf.Variable} of a network's weights."""
    return {variable.path: variable.value for variable in network.trainable_variables}


class RunCheckpoints:
    """Saves and restores all that a training run needs to go on as if it had not been stopped.

    That is the weights, Adam's moments and step, and the position in the data; dropout and the order of the pairs
    follow from these and the seed. Only the chief's process touches files; the others get its values.

    Args:
        folder: the run's.
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
        self.folder = folder
        with distribution.strategy.scope():
            self.epoch, self.steps = (tf.Variable(0, dtype=tf.int64) for _ in range(2))
            self.loss_sum = tf.Variable(0.0, dtype=tf.float64)
            self.best_recall = tf.Variable(-1.0, dtype=tf.float64)
        self._distribution = distribution
        self._weights = weights = network_variables(network)
        self._slots = {variable.path: variable.value for variable in optimizer.variables}
        if not distribution.is_chief:
            return
        self._all = tf.train.Checkpoint(network=weights, optimizer=self._slots, epoch=self.epoch, steps=self.steps,
                                        loss_sum=self.loss_sum, best_recall=self.best_recall)
        for each in (folder, os.path.join(folder, BEST)):
            _renew_state(each)
        self._latest = tf.train.CheckpointManager(self._all, folder, max_to_keep=KEPT)
        self._best = tf.train.CheckpointManager(
            tf.train.Checkpoint(network=weights), os.path.join(folder, BEST), max_to_keep=1)

    def share(self):
        """Give all processes the chief's weights, optimizer and progress."""
        self._distribution.share_chiefs_values([*self._weights.values(), *self._slots.values(), self.epoch, self.steps,
                                                self.loss_sum, self.best_recall])

    def check_space(self):
        """Refuse to begin a run whose checkpoints will not fit on the disk.

        Raises:
            UserError: says how much they need and how much is free.
        """
        weights = sum(variable.shape.num_elements() for variable in self._weights.values()) * 4
        needed = weights * (3 * (KEPT + 1) + 2)  # with Adam's two moments; a new one is written before an old one goes
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise UserError(f"{self.folder}: the run's checkpoints need {needed / 1e9:.3g} GB and {free / 1e9:.3g} GB "
                            "are free; free some space, or use another --model_dir")

    def restore(self):
        """Restore the newest checkpoint that is whole; one that a dying machine damaged is named and passed over.

        Returns:
            Its path, or None where there is none.

        Raises:
            UserError: there are checkpoints, and none can be read.
        """
        damaged = []
        for path in reversed(self._latest.checkpoints):
            try:
                self._all.restore(path).assert_consumed()
            except Exception as error:  # TensorFlow's readers raise many kinds for broken bytes
                damaged.append(path)
                print(f"{path}: cannot be read ({first_line(error)}); going back to the one before", flush=True)
            else:
                return path
        if damaged:
            raise UserError(f"{self.folder}: none of its {len(damaged)} checkpoints can be read; remove the folder to "
                            "start anew, or use another --model_dir")
        return None

    def save(self, best=False):
        """Save the run; `best` says whether these weights are the best so far.

        Raises:
            UserError: they cannot be written, or are not finite; the checkpoints before them stay whole.
        """
        if not self._distribution.is_chief:
            return
        if not all(np.isfinite(variable.numpy()).all() for variable in self._weights.values()):
            raise UserError(f"{self.folder}: the weights are not finite any more, so that they are not saved; those of "
                            "the checkpoints before are. Use a lower --learning_rate with another --model_dir")
        try:
            for manager in (self._best, self._latest) if best else (self._latest,):
                # A number of its own: a checkpoint that is written over could be lost.
                manager.save(1 + max(map(_number, manager.checkpoints), default=0))
        except (tf.errors.OpError, OSError) as error:
            raise UserError(f"{self.folder}: the checkpoint cannot be written ({first_line(error)}); those before it "
                            "are whole: free some space and run the same command again") from None


def load_weights(network, path, kind, description, parts=("VGG", "spatial")):
    """Load a network's weights from a file that `checkpoint_files.find_checkpoint` found.

    Args:
        network: keras.Model.
        path, kind: of the file.
        description: of the network, for messages.
        parts: which layers to load, by the beginning of their names; others keep their weights.

    Returns:
        tf.train.CheckpointReader, or None for Keras weights.

    Raises:
        UserError: the file is damaged, holds another network, or weights that are not finite. Nothing is loaded then.
    """
    variables = network_variables(network)
    reader, tensors = None, {}
    try:
        if kind == KERAS:
            before = network.get_weights()
            network.load_weights(path)
            tensors = {name: variable.numpy() for name, variable in variables.items()}
            network.set_weights(before)
        elif kind == TENSORFLOW:
            reader = tf.train.load_checkpoint(path)
            keys = _keys(reader.get_variable_to_shape_map(), variables, path, description, parts)
            tensors = {name: reader.get_tensor(key) for name, key in keys.items()}
        else:
            raise UserError(f"{path}: NumPy files hold VGG16's starting weights only; use it with --init")
    except UserError:
        raise
    except Exception as error:  # TensorFlow's and HDF5's readers raise many kinds for broken bytes
        raise UserError(f"{path}: cannot be read as weights of {description} ({first_line(error)}); it is damaged or "
                        "another network's: copy or download it again, or use another one") from None
    wrong = [name for name, tensor in tensors.items() if not np.isfinite(tensor).all()]
    if wrong:
        raise UserError(f"{path}: {len(wrong)} weights are not finite, such as {wrong[0]}; the network that it holds "
                        "has diverged: use an earlier checkpoint")
    for name, tensor in tensors.items():
        if name.startswith(parts):
            variables[name].assign(tensor)
    return reader


def _keys(shapes, variables, path, description, parts):
    """{our name of a weight: its key in a TensorFlow checkpoint}, ours or the authors', after accounting for all."""
    if published_checkpoint.MARK in shapes:
        key_of = published_checkpoint.published_name
        extra = [key for key in shapes if not published_checkpoint.is_bookkeeping(key)]
    else:
        def key_of(name):
            return f"network/{name.replace('.', '..').replace('/', '.S')}/.ATTRIBUTES/VARIABLE_VALUE"
        extra = [key for key in shapes if key.startswith("network/")]
        if not extra:
            raise UserError(f"{path}: a TensorFlow checkpoint, but of something else (it holds "
                            f"{', '.join(sorted(shapes)[:3])} ...); name a checkpoint of this project or the authors'")
    keys = {name: key_of(name) for name in variables if name.startswith(parts)}
    lacking = [name for name, key in keys.items() if key not in shapes]
    misshapen = [f"{name} {shapes[key]} instead of {list(variables[name].shape)}" for name, key in keys.items()
                 if key in shapes and shapes[key] != list(variables[name].shape)]
    known = {key_of(name) for name in variables}
    unexpected = sorted(set(extra) - known) if parts == ("VGG", "spatial") else []
    if lacking or misshapen or unexpected:
        counts = [f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})" for what, names in
                  (("missing", lacking), ("misshapen", misshapen), ("unexpected", unexpected)) if names]
        raise UserError(f"{path}: not a checkpoint of {description}: {'; '.join(counts)}. Name the network that it "
                        "was trained as with --network_type, --polar and the sizes")
    return keys


def optimizer_state(reader, variables):
    """Adam's step and moments from a checkpoint of a training run, ours or the authors'.

    Args:
        reader: as `load_weights` returned it.
        variables: of `network_variables`.

    Returns:
        step, {(name, "momentum" or "velocity"): array}; 0 and None where the checkpoint holds weights only.
    """
    shapes = {} if reader is None else reader.get_variable_to_shape_map()
    if published_checkpoint.MARK in shapes:
        has_state = any(published_checkpoint.is_bookkeeping(name) for name in shapes)
        return published_checkpoint.optimizer_state(reader, variables) if has_state else (0, None)

    def key(path):
        return f"optimizer/{path.replace('.', '..').replace('/', '.S')}/.ATTRIBUTES/VARIABLE_VALUE"
    if key("adam/iteration") not in shapes:
        return 0, None
    return int(reader.get_tensor(key("adam/iteration"))), {
        (name, moment): reader.get_tensor(key(slot_path(name, moment)))
        for name in variables for moment in published_checkpoint.SLOTS.values()}


def slot_path(name, moment):
    """Path of the variable in which Keras's Adam keeps a weight's "momentum" or "velocity"."""
    return f"adam/{name.replace('/', '_')}_{moment}"


def _renew_state(folder):
    """Write TensorFlow's list of a folder's checkpoints anew from the files that are there.

    The list may be lost or empty after a crash, and TensorFlow would overlook the checkpoints, or fail.
    """
    state = os.path.join(folder, "checkpoint")
    names = [name.removesuffix(INDEX) for name in (os.listdir(folder) if os.path.isdir(folder) else ())
             if name.endswith(INDEX)]
    names = sorted((name for name in names if re.fullmatch(r"ckpt-\d+", name)), key=_number)
    if names:
        lines = [f'model_checkpoint_path: "{names[-1]}"', *(f'all_model_checkpoint_paths: "{name}"' for name in names)]
        lines += [f"all_model_checkpoint_timestamps: {os.path.getmtime(os.path.join(folder, name + INDEX))}"
                  for name in names]
        write_whole(state, "\n".join([*lines, ""]).encode())
    elif os.path.exists(state):
        os.unlink(state)


def _number(path):
    return int(path.rpartition("-")[2])
