"""The order of an epoch's pairs, which a sampler draws; it is kept beside the checkpoints for a run that is stopped."""

import os
import zipfile

import numpy as np
import tensorflow as tf

from input_data import epoch_order
from safa.parts import SAMPLERS
from safa.runtime.errors import UserError
from safa.runtime.files import open_whole, ordinary

KEPT = "order.npz"  # in the run's folder


def order_of_epoch(run, epoch, done):
    """The order of an epoch's pairs, (Q,) int64, the same in all processes, which call this together.

    `run`: training.train.TrainingRun. `done`: steps taken of the epoch; with any, its order is the one that it began with.
    Raises UserError if that one is gone, and ValueError if a sampler's is not of all pairs.
    """
    pairs, config, path = run.train_images.pairs, run.settings.training, os.path.join(run.paths.folder, KEPT)
    sampler, order = SAMPLERS[config.sampler], np.zeros(len(pairs), np.int64)
    if sampler is None:
        return epoch_order(len(pairs), epoch, config.seed)
    if not done:
        descriptors = run.extractor.pairs(run.train_images, run.describing_batch_size, f"pairs of epoch {epoch}")
    if run.distribution.is_chief:
        order[:] = _kept(path, epoch) if done else sampler(pairs, epoch, config.seed, config.batch_size, *descriptors)
        if not np.array_equal(np.sort(order), np.arange(len(pairs))):
            raise ValueError(f"--sampler {config.sampler}: its order does not hold each of {len(pairs)} pairs once")
        with open_whole(path) as file:
            np.savez(file, epoch=epoch, order=order)
    shared = tf.Variable(order)
    run.distribution.share_chiefs_values([shared])
    return shared.numpy()


def _kept(path, epoch):
    try:
        with open(path, "rb", opener=ordinary) as file, np.load(file) as kept:
            if kept["epoch"] == epoch:
                return kept["order"]
    except (FileNotFoundError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass
    raise UserError(f"{path}: the order of epoch {epoch} is not in it; restore the file, or use another --model_dir")
