"""The training of a network: steps, validation, checkpoints (paper, section 4)."""

import contextlib
import dataclasses
import os
import signal

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from input_data import batches, epoch_order
from safa import __version__
from safa.datasets.pair_augmentation import PairAugmentation
from safa.datasets.pair_images import PairImages
from safa.datasets.panorama_views import PanoramaView
from safa.parts import build_network
from safa.report.epoch_lines import read_lines
from safa.report.recall_line import recall_line, tie_warning
from safa.retrieval.descriptors import DescriptorExtractor
from safa.retrieval.evaluation import WINNERS, recalls
from safa.retrieval.search import search
from safa.retrieval.task import task_of
from safa.runtime.distribution import Distribution, explain_tensorflow_errors
from safa.runtime.errors import Stopped, UserError
from safa.runtime.files import write_json
from safa.runtime.folder_lock import open_lock
from safa.runtime.interruption import StopRequest, StopVote
from safa.runtime.provenance import session
from safa.runtime.worker_pool import available_cores
from safa.settings import Settings
from safa.training.checkpoints import Progress, RunCheckpoints, SaveClock
from safa.training.initial_weights import continue_published, initialise
from safa.training.log import Meter, TrainingLog
from safa.training.run_folder import MANIFEST, RunManifest, RunPaths, data_identity, read_manifest
from safa.training.step import adam, batch_loss, learning_rate_schedule, training_step
from safa.training.variables import Averages
from safa.training.weights import write_keras_weights
from VGG import MEAN_BGR


def train(settings, train_pairs, val_pairs, paths):
    """Train a network, or continue a run that was stopped, after its last saved step.

    After every epoch: recall on the validation split, a line in the CSV file, a checkpoint.

    The loop is our own, not `keras.Model.fit`: one step needs the descriptors of all devices and micro batches before any
    gradient, a stopped run continues inside an epoch with the same pairs, masks and bits, and processes agree on the step
    after which they end.

    Args:
        settings: settings.Settings.
        train_pairs, val_pairs: datasets.dataset.Pairs.
        paths: training.run_folder.RunPaths.

    Raises:
        UserError: weights cannot be had, the devices do not fit the batch, or the loss is no longer finite.
        Stopped: by a signal, after saving.
    """
    config, options = settings.training, settings.run
    with training_session(settings, train_pairs, val_pairs, paths) as (distribution, stop):
        run = build_run(settings, train_pairs, val_pairs, paths, distribution)
        progress = restore_or_begin(run, stop)
        loss_of_batch = batch_loss(config, train_pairs.dataset.negative_metres)
        step = training_step(
            run.network, run.optimizer, loss_of_batch, distribution.strategy, options.micro_batch, config.clip_norm
        )
        for epoch in range(progress.epochs + 1, config.epochs + 1):
            clock, vote = SaveClock(options.save_every), StopVote(stop, distribution.sum_over_processes)
            meter = Meter(config.batch_size, progress, run.progress_bar(epoch, progress.steps))
            for number, batch in enumerate(meter.timed(run.batches(epoch, progress.steps)), progress.steps + 1):
                loss = step(batch)
                vote.cast()
                is_last = number == run.steps
                stops, logs = vote.passed(is_last), number % options.log_every == 0
                saves = not is_last and clock.is_due(number)
                # The loss before is read while the device computes; this one too where something needs the state after it.
                for finished, value in meter.read(number, loss, wait=is_last or stops or logs or saves):
                    run.check_loss(epoch, finished, value)
                if stops:
                    raise run.saved_and_stopped(progress, stop.signal or signal.SIGTERM, epoch)
                if saves:
                    run.checkpoints.save(progress)
                    clock.saved()
                if logs and run.log is not None:
                    run.log.steps(epoch, number, run.steps, meter.rates(), run.learning_rate, run.adam_steps)
            try:
                result = validate(run, "validation", epoch, stop)
            except Stopped as stopped:
                raise run.saved_and_stopped(progress, stopped.signal, epoch) from None
            mean_loss = progress.loss_sum / run.steps
            progress = Progress(epoch, best_recall=progress.best_recall)
            if result is not None:
                # A run that is killed between these repeats the epoch, and writes the same line and checkpoint again.
                run.log.epoch(epoch, mean_loss, result["recall"], *meter.epoch_rates(), run.adam_steps)
                if (warning := tie_warning(result["tied_queries"], result["queries"])) is not None:
                    run.say(f"{warning}; pessimistic: {recall_line(result['pessimistic_recall'])}")
                recall = result["pessimistic_recall"]["1"]  # so a collapsed network is never the best
                is_best = recall > progress.best_recall
                progress.best_recall = max(recall, progress.best_recall)
                run.checkpoints.save(progress, best=is_best)
            if stop.signal is not None and not distribution.has_others and epoch < config.epochs:
                raise Stopped(stop.signal, f"epoch {epoch} is saved")
        finish(run, progress)


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
            if not stack.enter_context(open_lock(paths.lock)).take_alone():
                raise UserError(
                    f"{paths.folder}: another run is training there at the moment; wait for it, or use another --run or "
                    "--model_dir"
                )
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


@dataclasses.dataclass(frozen=True)
class TrainingRun:
    """What a run is made of.

    Attributes:
        settings, paths, distribution: as given.
        network: spatial_net.Network.
        optimizer: keras.optimizers.Adam, built for its weights.
        averages: of the weights, which are validated and saved as the best.
        extractor: of the network's descriptors.
        checkpoints: of this run.
        train_images, val_images: of both splits.
        log: None in processes that are not the chief's.
    """

    settings: Settings
    paths: RunPaths
    distribution: Distribution
    network: keras.Model
    optimizer: keras.optimizers.Optimizer
    averages: Averages
    extractor: DescriptorExtractor
    checkpoints: RunCheckpoints
    train_images: PairImages
    val_images: PairImages
    log: TrainingLog | None

    @property
    def steps(self):
        """Steps of an epoch; an incomplete batch is dropped."""
        return len(self.train_images.pairs) // self.settings.training.batch_size

    @property
    def adam_steps(self):
        """Steps that Adam has taken."""
        return int(self.optimizer.iterations.numpy())

    @property
    def learning_rate(self):
        """Of the next step."""
        return float(keras.ops.convert_to_numpy(self.optimizer.learning_rate))

    def say(self, line):
        """Print a line, in the chief's process."""
        if self.distribution.is_chief:
            print(line, flush=True)

    def progress_bar(self, epoch, done):
        """A bar of an epoch's pairs, in the chief's process."""
        quiet = None if self.distribution.is_chief else True
        total, initial = (steps * self.settings.training.batch_size for steps in (self.steps, done))
        return tqdm(total=total, initial=initial, desc=f"epoch {epoch}", unit="pair", leave=False, disable=quiet)

    def batches(self, epoch, done):
        """The batches of an epoch after the first `done`, spread over the devices."""
        config, pairs, width = self.settings.training, self.train_images.pairs, self.settings.network.width
        augmentation = PairAugmentation(config.rotate_pairs, config.flip_pairs, bool(self.settings.network.polar))
        view = PanoramaView(config.train_fov, config.random_heading)
        panoramas = view.training_panoramas(len(pairs), width, MEAN_BGR, config.seed, epoch)
        images = self.train_images.changed(augmentation.drawn(pairs, config.seed, epoch), panoramas)
        order = epoch_order(len(pairs), epoch, config.seed)[done * config.batch_size : self.steps * config.batch_size]
        rows = self.distribution.local_rows(order, config.batch_size)
        local_size = self.distribution.local_batch_size(config.batch_size)
        for batch in batches(images, rows, local_size, available_cores()):
            offset, *shares = self.distribution.spread(*batch[:-1])
            yield batch.__class__(*shares, offset)

    def check_loss(self, epoch, number, loss):
        """Refuse to go on with a loss that is not finite."""
        where = f"epoch {epoch}, step {number} of {self.steps}"
        if not np.isfinite(loss):
            raise UserError(
                f"{where}: the loss is {loss}, so the run is stopped; the checkpoints of the epochs before are kept. "
                "Use a lower --learning_rate with another --model_dir"
            )
        if loss == 0:  # no other batch has this loss: the diagonal's is log 2
            self.say(f"{where}: a batch without negatives, since all its places are too close to each other; its loss is 0")

    def saved_and_stopped(self, progress, number, epoch):
        """Save the run in the middle of an epoch; returns the Stopped to raise for signal `number`."""
        self.checkpoints.save(progress)
        return Stopped(number, f"epoch {epoch} is saved up to step {progress.steps} of {self.steps}")

    def leavable(self, stop):
        """A context that a signal ends at once; with other processes, which wait for this one, only a step can."""
        return contextlib.nullcontext() if self.distribution.has_others else stop.at_once()


def build_run(settings, train_pairs, val_pairs, paths, distribution):
    """The TrainingRun of these settings: network, optimizer, images; arguments as of `train`."""
    config, network_config = settings.training, settings.network
    steps = len(train_pairs) // config.batch_size
    with distribution.strategy.scope():
        network = build_network(network_config, config.keep_prob, config.seed, config.precision)
        warmup_steps = round(config.warmup_epochs * steps)
        rate = learning_rate_schedule(config.learning_rate, config.schedule, warmup_steps, config.epochs * steps)
        optimizer = adam(rate, config.ema)
        optimizer.build(network.trainable_variables)
    shapes, cached = (network_config.sat_shape, network_config.grd_shape), settings.run.cache == "memory"
    view = PanoramaView(config.train_fov, config.random_heading)
    val_panoramas = view.test_panoramas(len(val_pairs), network_config.width, MEAN_BGR)
    run = TrainingRun(
        settings=settings,
        paths=paths,
        distribution=distribution,
        network=network,
        optimizer=optimizer,
        averages=Averages(network, optimizer),
        extractor=DescriptorExtractor(network, distribution),
        checkpoints=RunCheckpoints(paths.folder, network, optimizer, distribution),
        train_images=PairImages.of(train_pairs, shapes, cached=cached),
        val_images=PairImages.of(val_pairs, shapes, val_panoramas, cached),
        log=TrainingLog(paths) if distribution.is_chief else None,
    )
    for note in distribution.notes:  # on this machine, the chief's or not
        print(note, flush=True)
    if cached:
        needed = run.train_images.cached_bytes + run.val_images.cached_bytes
        run.say(f"{train_pairs.dataset.name}: up to {needed / 1e9:.3g} GB of decoded images are kept in memory")
    return run


def restore_or_begin(run, stop):
    """The Progress of a run that goes on, or that begins with its starting weights and a validation of these."""
    config, pairs = run.settings.training, run.train_images.pairs
    run.say(
        f"{pairs.dataset.name}: {run.settings.network}; {len(pairs):,} pairs for training, "
        f"{len(run.val_images.pairs):,} for validation; on {run.distribution}, {config.precision}"
    )
    progress = _chiefs_progress(run) if run.distribution.is_chief else Progress()
    progress = run.checkpoints.share(progress)
    if not progress.steps and progress.best_recall < 0:  # nothing was trained here yet
        before = "untrained" if config.continue_from is None else "before training"
        run.say(
            f"weights: {config.continue_from or config.init}; Adam's step {run.adam_steps}, {progress.epochs} epochs done; "
            f"dropout keeps {config.keep_prob:g} of the activations"
        )
        result = validate(run, before, 0, stop)
        if result is not None:
            run.say(f"{before}: {recall_line(result['pessimistic_recall'])}")
    if progress.epochs < config.epochs and run.distribution.is_chief:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(run.paths.final)  # of fewer epochs
    return progress


def _chiefs_progress(run):
    """What `restore_or_begin` does in the chief's process alone: files."""
    config, paths, data = run.settings.training, run.paths, data_identity(run.train_images.pairs)
    progress, restored, notes = run.checkpoints.restore()
    for note in notes:
        run.say(note)
    if progress is None:
        progress = Progress()
        run.checkpoints.check_space()
        if config.continue_from is not None:
            step = continue_published(run.network, run.optimizer, config.continue_from, run.settings.network)
            progress.epochs = step // run.steps
        elif (note := initialise(run.network, config.init, run.settings.network)) is not None:
            run.say(note)
        run.log.forget()
    earlier = read_manifest(paths.folder)
    now = session() | {"devices": str(run.distribution), "options": dataclasses.asdict(run.settings.run)}
    sessions = [*(earlier.sessions if earlier else []), now]
    manifest = RunManifest(run.settings.network, config, data, sessions, run.train_images.pairs.dataset.name, __version__)
    write_json(os.path.join(paths.folder, MANIFEST), manifest)
    if (kept := run.log.put_foreign_lines_aside()) is not None:
        run.say(f"{paths.csv}: held the lines of another run, or of one cut off; kept as {kept}")
    if restored is not None:
        within = f" and {progress.steps} steps" if progress.steps else ""
        run.say(f"going on after epoch {progress.epochs} of {config.epochs}{within}, from {restored}")
    return progress


def validate(run, title, epoch, stop):
    """Recalls on the validation split (`retrieval.evaluation.recalls`); None in processes that are not the chief's."""
    batch_size, micro_batch = run.settings.training.batch_size, run.settings.run.micro_batch
    if micro_batch is not None:
        batch_size = min(batch_size, micro_batch * run.distribution.replicas)
    averages = run.averages if run.adam_steps else contextlib.nullcontext()  # they begin with the first step
    with averages, run.leavable(stop):  # in this order: no signal ends the exchange of weights and averages
        references, queries = run.extractor.pairs(run.val_images, batch_size, title)
    if not run.distribution.is_chief:
        return None
    task, every = task_of(run.val_images.pairs), run.settings.run.figures_every
    shows = bool(every and epoch) and epoch % every == 0
    found = search(references, queries, task.truth, task.near, WINNERS * shows)
    if shows:
        from safa.report.figures import validation_sheet

        run.log.picture("validation", validation_sheet(run.val_images, task, found), run.adam_steps)
    return recalls(task, found)


def finish(run, progress):
    """Write the last weights of a run all of whose epochs are finished."""
    config, paths = run.settings.training, run.paths
    if progress.epochs > config.epochs or os.path.exists(paths.final):
        run.say(f"all {config.epochs} epochs were finished before; raise --epochs to continue")
        return
    if run.distribution.is_chief:
        with run.averages:
            write_keras_weights(paths.final, run.network)
    run.say(
        f"finished {config.epochs} epochs; best R@1 {100 * progress.best_recall:.2f}; "
        f"checkpoints in {paths.folder}, losses and recalls in {paths.csv}"
    )
