"""A run's checkpoints: the last three and the best."""

import dataclasses
import os

import numpy as np
import tensorflow as tf

from safa.runtime.errors import UserError, first_line
from safa.runtime.files import check_space, put_aside, remove_abandoned, write_whole
from safa.training.checkpoint_files import INDEX, find_checkpoint, remove_checkpoint, remove_leftovers, run_checkpoints
from safa.training.run_folder import BEST
from safa.training.tensorflow_files import open_checkpoint, write_checkpoint
from safa.training.variables import NETWORK, Averages, adam_variables, network_variables

CHECKPOINTS_KEPT = 3
PROGRESS = "progress/"


@dataclasses.dataclass
class Progress:
    """How far a run is."""

    epochs: int = 0  # that are finished
    steps: int = 0  # taken of the epoch after these
    loss_sum: float = 0.0  # of these steps
    best_recall: float = -1.0  # R@1 of the best epoch so far, a fraction; -1 before the first


class RunCheckpoints:
    """Saves and restores all that a training run needs to continue as if it had not been stopped.

    That is the weights, Adam's moments and step, the Progress, and a sampler's order of the pairs; dropout and the paper's
    order follow from these and the seed. Only the chief's process touches files; the others get its values.

    Args:
        folder: the run's, in which no other process may be training.
        network: spatial_net.Network.
        optimizer: keras.optimizers.Adam, built for its trainable variables.
        distribution: runtime.distribution.Distribution.
        order: variable with the epoch's order of pairs, where a sampler draws it.
    """

    def __init__(self, folder, network, optimizer, distribution, order=None):
        self._folder, self._best_folder = folder, os.path.join(folder, BEST)
        self._distribution, self._averages = distribution, Averages(network, optimizer)
        self._learned = {NETWORK + name: variable for name, variable in network_variables(network).items()}
        self._variables = self._learned | adam_variables(network, optimizer)
        self._variables |= {} if order is None else {PROGRESS + "order": order}
        if distribution.is_chief:
            for each in filter(os.path.isdir, (folder, self._best_folder)):
                remove_abandoned(each, older_than=0)
                remove_leftovers(each)

    def share(self, progress):
        """The chief's Progress, in all processes, which get its variables too."""
        numbers = tf.Variable(dataclasses.astuple(progress), dtype=tf.float64)
        self._distribution.share_chiefs_values([*self._variables.values(), numbers])
        epochs, steps, *others = numbers.numpy().tolist()
        return Progress(int(epochs), int(steps), *others)

    def check_space(self):
        """Refuse to begin a run whose checkpoints will not fit on the disk: a UserError says how much they need."""
        # A new one is written before an old one goes; the best has no moments.
        values = [variable.shape.num_elements() for variable in self._variables.values()]
        learned = [variable.shape.num_elements() for variable in self._learned.values()]
        needed = 4 * ((CHECKPOINTS_KEPT + 1) * sum(values) + 2 * sum(learned))
        check_space(self._folder, needed, "the run's checkpoints", "free some space, or use another --model_dir")

    def restore(self):
        """Restore the newest checkpoint that is whole; one that a dying machine damaged is named and passed over.

        Returns:
            progress: Progress, or None before the first checkpoint.
            path: of the checkpoint, or None.
            notes: lines on what was passed over or put aside.

        Raises:
            UserError: there are checkpoints, and none can be read; a run never begins among them.
        """
        notes = []
        for prefix in reversed(run_checkpoints(self._folder).values()):
            try:
                find_checkpoint(prefix)
                with open_checkpoint(prefix) as reader:
                    tensors = {name: reader.get_tensor(name) for name in self._variables}
                    numbers = {each.name: reader.get_tensor(PROGRESS + each.name) for each in dataclasses.fields(Progress)}
                for name, tensor in tensors.items():
                    self._variables[name].assign(tensor)
            except Exception as error:  # TensorFlow's readers raise many kinds for broken bytes
                notes.append(f"{prefix}: cannot be read ({first_line(error)}); going back to the one before")
            else:
                return Progress(**{name: number.item() for name, number in numbers.items()}), prefix, notes
        found = sorted(name for name in os.listdir(self._folder) if name.endswith(INDEX) or ".data-" in name)
        if found:
            what = f"holds {found[-1]}, but no checkpoint that the run can go on from (damaged, or of a version before 1.0)"
            raise UserError(f"{self._folder}: {what}; restore the files, move them away, or use another --model_dir")
        if os.path.isdir(self._best_folder) and os.listdir(self._best_folder):
            kept = put_aside(self._best_folder)
            notes.append(f"{self._best_folder}: held the best weights of a run without other checkpoints; kept as {kept}")
        return None, None, notes

    def save(self, progress, best=False):
        """Save the run; `best` says whether these weights are the best so far.

        Raises UserError if they cannot be written, or are not finite; the checkpoints before them stay whole.
        """
        if not self._distribution.is_chief:
            return
        tensors = {name: variable.numpy() for name, variable in self._variables.items()}
        if not all(np.isfinite(tensors[name]).all() for name in self._learned):
            what = f"{self._folder}: the weights are no longer finite and are not saved; earlier ones are"
            raise UserError(f"{what}. Use a lower --learning_rate with another --model_dir")
        if best:
            os.makedirs(self._best_folder, exist_ok=True)
            with self._averages:
                learned = {name: variable.numpy() for name, variable in self._learned.items()}
            self._write(learned, self._best_folder, 1)
        numbers = {PROGRESS + name: np.array(value) for name, value in dataclasses.asdict(progress).items()}
        self._write(tensors | numbers, self._folder, CHECKPOINTS_KEPT)

    def _write(self, tensors, folder, kept):
        earlier = run_checkpoints(folder)
        name = f"ckpt-{1 + max(earlier, default=0)}"  # of its own: a checkpoint that is written over could be lost
        prefix = os.path.join(folder, name)
        write_checkpoint(prefix, tensors)
        for each in [*earlier.values(), prefix][:-kept]:
            remove_checkpoint(each)
        # For tf.train.latest_checkpoint and the like; this project reads the folder itself.
        write_whole(os.path.join(folder, "checkpoint"), f'model_checkpoint_path: "{name}"\n'.encode())
