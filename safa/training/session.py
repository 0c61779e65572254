"""All that can refuse a run before it has a network: devices, the lock of its folder, other processes; and its signals."""

import contextlib
import os

import keras
import tensorflow as tf

from safa.report.epoch_lines import read_lines
from safa.runtime.backend import explain_tensorflow_errors
from safa.runtime.distribution import Distribution
from safa.runtime.errors import UserError
from safa.runtime.files import locked
from safa.runtime.interruption import StopRequest
from safa.training.run_folder import data_identity


@contextlib.contextmanager
def training_session(settings, train_pairs, val_pairs, paths):
    """A context with the Distribution and the StopRequest of a run: all that can refuse it; arguments as of `train`."""
    read_lines(paths.csv)  # refuses what is not one, before anything is written
    config, options = settings.training, settings.run
    if options.deterministic:
        tf.config.experimental.enable_op_determinism()
        keras.utils.set_random_seed(config.seed)
    distribution = Distribution(options.devices, config.precision)
    _check_shares(config.batch_size, distribution.replicas, options.micro_batch)
    with contextlib.ExitStack() as stack:
        if distribution.is_chief:
            os.makedirs(paths.folder, exist_ok=True)
            busy = "another run is training there at the moment; wait for it, or use another --run or --model_dir"
            stack.enter_context(locked(paths.lock, f"{paths.folder}: {busy}"))
        full = "a smaller --micro_batch" if options.micro_batch else "--micro_batch, which needs less for the same result"
        stack.enter_context(explain_tensorflow_errors(distribution, full))
        identities = [data_identity(pairs) for pairs in (train_pairs, val_pairs)]
        distribution.agree(repr((settings.network, config, options.micro_batch, options.deterministic, *identities)))
        yield distribution, stack.enter_context(StopRequest())


def _check_shares(batch_size, replicas, micro_batch):
    if batch_size % replicas:
        raise UserError(
            f"--batch_size {batch_size}: cannot be shared evenly by {replicas} devices; use a multiple of "
            f"{replicas}, or fewer --devices"
        )
    share = batch_size // replicas
    if micro_batch is not None and share % micro_batch:
        raise UserError(
            f"--micro_batch {micro_batch}: does not divide the {share} pairs that each device has of a batch; use a divisor"
        )
