"""TensorFlow's checkpoint files under names that it takes literally, written whole or not at all."""

import contextlib
import os
import shutil
import tempfile

import tensorflow as tf

from safa.runtime.errors import UserError, first_line
from safa.runtime.files import partial_path
from safa.training.checkpoint_files import DATA, INDEX

NAME = "weights"


@contextlib.contextmanager
def open_checkpoint(prefix):
    """A context with a tf.train.CheckpointReader."""
    folder, name = os.path.split(os.path.abspath(prefix))
    files = [each for each in os.listdir(folder) if each.startswith((name + INDEX, name + ".data-"))]
    with _links({NAME + each.removeprefix(name): os.path.join(folder, each) for each in files}) as links:
        yield tf.compat.v1.train.NewCheckpointReader(os.path.join(links, NAME))


def write_checkpoint(prefix, tensors):
    """Write {name: array} as a checkpoint's files, `prefix`.index and `prefix`.data-00000-of-00001, the index last.

    Raises UserError if they cannot be written. Nothing is left then, and a checkpoint of this name stays as it was.
    """
    partial = partial_path(prefix)
    try:
        os.makedirs(partial, exist_ok=True)
        with _links({NAME: os.path.abspath(partial)}) as links, tf.device("CPU:0"):
            tf.raw_ops.SaveV2(
                prefix=os.path.join(links, NAME, NAME),
                tensor_names=list(tensors),
                shape_and_slices=[""] * len(tensors),
                tensors=[tf.constant(value) for value in tensors.values()],
            )
        for ending in (DATA, INDEX):
            with open(os.path.join(partial, NAME + ending), "r+b") as file:
                os.fsync(file.fileno())  # not even a power cut leaves an index of missing data
        for ending in (DATA, INDEX):
            os.replace(os.path.join(partial, NAME + ending), prefix + ending)
    except (tf.errors.OpError, OSError) as error:
        what = f"{prefix}: cannot be written ({first_line(error)})"
        raise UserError(f"{what}; free some space, or choose another folder, and run the same command again") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def _links(paths):
    """A context with a folder of links {name: path}: TensorFlow would take a * of the real path for a pattern, for instance."""
    with tempfile.TemporaryDirectory(dir="/tmp" if os.access("/tmp", os.W_OK) else None) as folder:
        for name, path in paths.items():
            os.symlink(path, os.path.join(folder, name))
        yield folder
