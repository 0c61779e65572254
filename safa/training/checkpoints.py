"""A run's checkpoints: the last three and the best."""

import itertools
import os

import numpy as np
import tensorflow as tf

from safa.runtime.errors import UserError, first_line
from safa.runtime.files import check_space, write_whole
from safa.training.checkpoint_files import INDEX, find_checkpoint, remove_checkpoint, remove_leftovers, run_checkpoints
from safa.training.run_folder import BEST
from safa.training.tensorflow_files import literal_prefix, whole_checkpoint
from safa.training.weights import network_variables

CHECKPOINTS_KEPT = 3


class RunCheckpoints:
    """Saves and restores all that a training run needs to continue as if it had not been stopped.

    That is the weights, Adam's moments and step, and the position in the data; dropout and the order of the pairs
    follow from these and the seed. Only the chief's process touches files; the others get its values.

    Args:
        folder: the run's, in which no other process may be training.
        network: keras.Model.
        optimizer: keras.optimizers.Optimizer, built for the network's weights.
        distribution: distribution.Distribution.
        averages: training.weights.Averages, inside which the best weights are saved.

    Attributes:
        epoch: tf.Variable, int64: finished epochs.
        steps: tf.Variable, int64: steps taken of the epoch after these.
        loss_sum: tf.Variable, float64: sum of these steps' losses.
        best_recall: tf.Variable, float64: R@1 of the best epoch so far, a fraction; -1 before the first.
    """

    def __init__(self, folder, network, optimizer, distribution, averages):
        self.folder, self.best_folder = folder, os.path.join(folder, BEST)
        with distribution.strategy.scope():
            self.epoch, self.steps = (tf.Variable(0, dtype=tf.int64) for _ in range(2))
            self.loss_sum = tf.Variable(0.0, dtype=tf.float64)
            self.best_recall = tf.Variable(-1.0, dtype=tf.float64)
        self._distribution, self.averages = distribution, averages
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
            with self.averages:
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
