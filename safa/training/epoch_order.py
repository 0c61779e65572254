"""The order of an epoch's pairs that a sampler draws; checkpoints hold it, for a run that is stopped within the epoch."""

import numpy as np

from input_data import epoch_order
from safa.parts import SAMPLERS


def order_of_epoch(run, epoch, done):
    """The order of an epoch's pairs, (Q,) int64, the same in all processes, which call this together.

    `run`: training.train.TrainingRun. `done`: steps taken of the epoch; with any, its order is the one that it began with.
    Raises ValueError if a sampler's does not hold each pair once.
    """
    pairs, config = run.train_images.pairs, run.settings.training
    if run.order is None:
        return epoch_order(len(pairs), epoch, config.seed)
    if not done:
        descriptors = run.extractor.pairs(run.train_images, run.describing_batch_size, f"pairs of epoch {epoch}")
        if run.distribution.is_chief:
            order = SAMPLERS[config.sampler](pairs, epoch, config.seed, config.batch_size, *descriptors)
            if not np.array_equal(np.sort(order), np.arange(len(pairs))):
                raise ValueError(f"--sampler {config.sampler}: its order does not hold each of {len(pairs)} pairs once")
            run.order.assign(order)
        run.distribution.share_chiefs_values([run.order])
    return run.order.numpy()
