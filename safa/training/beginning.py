"""How a run begins – what can refuse it, then restored or with its starting weights – and how it ends."""

import contextlib
import dataclasses
import os
import pathlib

import keras
import tensorflow as tf

from safa import __version__
from safa.report.epoch_lines import read_lines
from safa.report.recall_line import recall_line
from safa.runtime.backend import explain_tensorflow_errors
from safa.runtime.cluster import say
from safa.runtime.distribution import Distribution
from safa.runtime.errors import UserError
from safa.runtime.files import locked, write_json
from safa.runtime.interruption import StopRequest
from safa.runtime.provenance import session
from safa.training.checkpoints import Progress
from safa.training.initial_weights import continue_published, initialise
from safa.training.run_folder import MANIFEST, RunManifest, data_identity, read_manifest
from safa.training.weights import write_keras_weights


@contextlib.contextmanager
def training_session(settings, train_pairs, val_pairs, paths):
    """A context with the Distribution and the StopRequest of a run: all that can refuse it; arguments as of `train`."""
    read_lines(paths.csv)  # refuses what is not one, before anything is written
    config, options = settings.training, settings.run
    keras.utils.set_random_seed(config.seed)  # for parts that draw without a seed of their own
    if options.deterministic:
        tf.config.experimental.enable_op_determinism()
    distribution = Distribution(options.devices, config.precision)
    _check_shares(config.batch_size, distribution.replicas, options.micro_batch)
    with contextlib.ExitStack() as stack:
        if distribution.is_chief:
            busy = "another run is training there at the moment; wait for it, or use another --run or --model_dir"
            stack.enter_context(locked(paths.folder, f"{paths.folder}: {busy}"))
        full = "a smaller --micro_batch" if options.micro_batch else "--micro_batch, which needs less for the same result"
        stack.enter_context(explain_tensorflow_errors(distribution, full))
        data = data_identity(train_pairs, val_pairs)
        distribution.agree(repr((settings.network, config, options.micro_batch, options.deterministic, data)))
        yield distribution, stack.enter_context(StopRequest())


def _check_shares(batch_size, replicas, micro_batch):
    if batch_size % replicas:
        remedy = f"use a multiple of {replicas}, or fewer --devices"
        raise UserError(f"--batch_size {batch_size}: cannot be shared evenly by {replicas} devices; {remedy}")
    share = batch_size // replicas
    if micro_batch is not None and share % micro_batch:
        raise UserError(f"--micro_batch {micro_batch}: does not divide a device's {share} pairs of a batch; use a divisor")


def restore_or_begin(run, stop):
    """The Progress of a run that goes on, or that begins with its starting weights and a validation of these."""
    config, pairs = run.settings.training, run.train_images.pairs
    say(
        f"{pairs.dataset.name}: {run.settings.network}; {len(pairs):,} pairs for training, "
        f"{len(run.val_images.pairs):,} for validation; on {run.distribution}, {config.precision}"
    )
    progress = _chiefs_progress(run) if run.distribution.is_chief else Progress()
    progress = run.checkpoints.share(progress)
    if not progress.steps and progress.best_recall < 0:  # nothing was trained here yet
        before = "untrained" if config.continue_from is None else "before training"
        done = f"Adam's step {run.adam_steps}, {progress.epochs} epochs done"
        say(f"weights: {config.continue_from or config.init}; {done}; dropout keeps {config.keep_prob:g} of the activations")
        result = run.validate(before, 0, stop)
        if result is not None:
            say(f"{before}: {recall_line(result['pessimistic_recall'])}")
    if progress.epochs < config.epochs and run.distribution.is_chief:
        pathlib.Path(run.paths.final).unlink(missing_ok=True)  # of fewer epochs
    return progress


def _chiefs_progress(run):
    """What `restore_or_begin` does in the chief's process alone: files."""
    config, paths, of_splits = run.settings.training, run.paths, (run.train_images.pairs, run.val_images.pairs)
    images = [path for pairs in of_splits for path in (*pairs.sat_paths, *pairs.grd_paths)]
    data = data_identity(*of_splits) | {"image_bytes": sum(map(os.path.getsize, images))}
    progress, restored, notes = run.checkpoints.restore()
    say(*notes)
    if progress is None:
        progress = Progress()
        run.checkpoints.check_space()
        if config.continue_from is not None:
            step = continue_published(run.network, run.optimizer, config.continue_from, run.settings.network)
            progress.epochs = step // run.steps
            if progress.epochs >= config.epochs:
                what = f"Adam's step {step}, {progress.epochs} epochs of these pairs"
                raise UserError(f"{config.continue_from}: {what}; raise --epochs, which counts those before too")
        else:
            say(*initialise(run.network, config.init, run.settings.network, paths.authors_model))
        pathlib.Path(paths.own_csv).unlink(missing_ok=True)  # lines of an earlier run do not count
    earlier = read_manifest(paths.folder)
    now = session() | {"devices": str(run.distribution), "options": dataclasses.asdict(run.settings.run)}
    sessions = [*(earlier.sessions if earlier else []), now]
    manifest = RunManifest(run.settings.network, config, data, sessions, of_splits[0].dataset.name, __version__)
    write_json(os.path.join(paths.folder, MANIFEST), manifest)
    if (kept := run.log.put_foreign_lines_aside()) is not None:
        say(f"{paths.csv}: held the lines of another run, or of one cut off; kept as {kept}")
    if restored is not None:
        have = data["image_bytes"]
        if (had := earlier.data.get("image_bytes", have)) != have:
            say(f"the run's images had {had:,} bytes and have {have:,}: some were replaced or made again since its last start")
        within = f" and {progress.steps} steps" if progress.steps else ""
        say(f"going on after epoch {progress.epochs} of {config.epochs}{within}, from {restored}")
    return progress


def finish(run, progress):
    """Write the last weights of a run all of whose epochs are finished."""
    config, paths = run.settings.training, run.paths
    if progress.epochs > config.epochs or os.path.exists(paths.final):
        say(f"all {config.epochs} epochs were finished before; raise --epochs to continue")
        return
    if run.distribution.is_chief:
        with run.averages:
            write_keras_weights(paths.final, run.network)
    say(
        f"finished {config.epochs} epochs; best R@1 {100 * progress.best_recall:.2f}; "
        f"checkpoints in {paths.folder}, losses and recalls in {paths.csv}"
    )
