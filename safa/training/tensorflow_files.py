"""TensorFlow's checkpoint files under names that it takes literally, written whole or not at all."""

import contextlib
import os
import re
import shutil
import tempfile

import tensorflow as tf

from safa.runtime.errors import UserError, first_line
from safa.runtime.files import partial_path
from safa.training.checkpoint_files import DATA, INDEX

# TensorFlow takes these for patterns of several files, for another file system, or cannot encode them.
NOT_LITERAL = re.compile("[][*?\\\\]|://|[\ud800-\udfff]")
NAME = "weights"


@contextlib.contextmanager
def literal_prefix(prefix):
    """A context with a prefix of the same checkpoint that TensorFlow takes literally: its own, or one of links."""
    if not NOT_LITERAL.search(prefix):
        yield prefix
        return
    folder, name = os.path.split(os.path.abspath(prefix))
    with _links(
        {
            NAME + each.removeprefix(name): os.path.join(folder, each)
            for each in os.listdir(folder)
            if each.startswith((name + INDEX, name + ".data-"))
        }
    ) as links:
        yield os.path.join(links, NAME)


@contextlib.contextmanager
def open_checkpoint(prefix):
    """A context with a tf.train.CheckpointReader."""
    with literal_prefix(prefix) as literal:
        yield tf.compat.v1.train.NewCheckpointReader(literal)


def write_checkpoint(prefix, tensors):
    """Write {name: array} as a checkpoint's files, `prefix`.index and `prefix`.data-00000-of-00001, the index last.

    Raises:
        UserError: they cannot be written. Nothing is left then, and a checkpoint of this name stays as it was.
    """
    partial = partial_path(prefix)
    try:
        os.makedirs(partial, exist_ok=True)
        if NOT_LITERAL.search(partial):
            with _links({NAME: os.path.abspath(partial)}) as links:
                _save(os.path.join(links, NAME, NAME), tensors)
        else:
            _save(os.path.join(partial, NAME), tensors)
        for ending in (DATA, INDEX):
            with open(os.path.join(partial, NAME + ending), "r+b") as file:
                os.fsync(file.fileno())  # not even a power cut leaves an index of missing data
        for ending in (DATA, INDEX):
            os.replace(os.path.join(partial, NAME + ending), prefix + ending)
    except (tf.errors.OpError, OSError) as error:
        raise UserError(
            f"{prefix}: the checkpoint cannot be written ({first_line(error)}); what was saved before is "
            "whole: free some space, or choose another folder, and run the same command again"
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _save(literal, tensors):
    values = [tf.constant(value) for value in tensors.values()]
    names = list(tensors)
    tf.raw_ops.SaveV2(prefix=literal, tensor_names=names, shape_and_slices=[""] * len(names), tensors=values)


@contextlib.contextmanager
def _links(paths):
    """A context with a folder of links {name: path}, whose own path TensorFlow takes literally."""
    usual = tempfile.gettempdir()
    with tempfile.TemporaryDirectory(dir="/tmp" if NOT_LITERAL.search(usual) else usual) as folder:
        for name, path in paths.items():
            os.symlink(path, os.path.join(folder, name))
        yield folder
