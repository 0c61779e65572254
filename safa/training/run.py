"""A training run: epochs of steps, validation, checkpoints (paper, section 4)."""

import contextlib
import dataclasses
import os
import signal
import time

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from input_data import batches, epoch_order
from safa import __version__
from safa.datasets.image_cache import make_caches
from safa.datasets.pair_augmentation import PairAugmentation
from safa.datasets.panorama_views import PanoramaView
from safa.report.epoch_lines import read_lines
from safa.report.figures import FigureSource, chosen_queries, retrieval_panels
from safa.report.retrieval_panels import contact_sheet
from safa.report.tables import recall_line, tie_warning
from safa.retrieval.descriptors import DescriptorExtractor
from safa.retrieval.evaluation import WINNERS, recalls
from safa.retrieval.search import search
from safa.retrieval.task import GROUND_TO_AERIAL, task_of
from safa.runtime.distribution import Distribution, explain_tensorflow_errors
from safa.runtime.errors import Stopped, UserError
from safa.runtime.files import write_json
from safa.runtime.folder_lock import open_lock
from safa.runtime.interruption import StopRequest, StopVote
from safa.runtime.provenance import session
from safa.settings import save_interval
from safa.training.checkpoints import RunCheckpoints
from safa.training.epoch import Meter, SaveClock, outcomes
from safa.training.initial_weights import continue_published, initialise
from safa.training.log import TrainingLog
from safa.training.run_folder import MANIFEST, RunManifest, data_identity, read_manifest
from safa.training.step import adam, batch_loss, learning_rate_schedule, training_step
from safa.training.weights import Averages, write_keras_weights
from spatial_net import network as build_network
from VGG import MEAN_BGR

SHOWN_QUERIES = 4  # of the validation split, in TensorBoard


def train(settings, train_pairs, val_pairs, paths):
    """Train a network, or continue a run that was stopped, after its last saved step.

    After every epoch: recall on the validation split, a line in the CSV file, a checkpoint.

    The loop is our own, not `keras.Model.fit`: one step needs the descriptors of all devices and the parts of a batch
    before any gradient, a stopped run continues inside an epoch with the same pairs, masks and bits, and processes agree
    on the step after which they end.

    Args:
        settings: settings.Settings.
        train_pairs, val_pairs: datasets.dataset.Pairs.
        paths: training.run_folder.RunPaths.

    Raises:
        UserError: weights cannot be had, the devices do not fit the batch, or the loss is no longer finite.
        Stopped: by a signal, after saving.
    """
    read_lines(paths.csv)  # refuses what is not one, before anything is written
    run = settings.run
    if run.deterministic:
        tf.config.experimental.enable_op_determinism()
        keras.utils.set_random_seed(settings.training.seed)
    distribution = Distribution(run.devices, settings.training.precision)
    _check_shares(settings.training.batch_size, distribution.replicas, run.micro_batch)
    full = "a smaller --micro_batch" if run.micro_batch else "--micro_batch, which needs less for the same result"
    with contextlib.ExitStack() as stack:
        if distribution.is_chief:
            os.makedirs(paths.folder, exist_ok=True)
            if not stack.enter_context(open_lock(paths.lock)).take_alone():
                raise UserError(
                    f"{paths.folder}: another run is training there at the moment; wait for it, or use another --run or "
                    "--model_dir"
                )
        stack.enter_context(explain_tensorflow_errors(distribution, full))
        identities = [data_identity(pairs) for pairs in (train_pairs, val_pairs)]
        distribution.agree(repr((settings.network, settings.training, run.micro_batch, run.deterministic, *identities)))
        stop = stack.enter_context(StopRequest())
        training = _Run(settings, train_pairs, val_pairs, paths, distribution, stop)
        training.begin()
        training.train()


class _Run:
    """What the parts of a run share; the arguments are those of `train`."""

    def __init__(self, settings, train_pairs, val_pairs, paths, distribution, stop):
        self.settings, self.config = settings, settings.training
        self.train_pairs, self.val_pairs = train_pairs, val_pairs
        self.paths, self.distribution, self.stop = paths, distribution, stop
        self.view = PanoramaView(settings.training.train_fov, settings.training.random_heading)
        self.augmentation = PairAugmentation(self.config.rotate_pairs, self.config.flip_pairs, bool(settings.network.polar))
        self.val_panoramas = self.view.test_panoramas(len(val_pairs), settings.network.width, MEAN_BGR)
        self.said_no_negatives = False
        self.steps = len(train_pairs) // self.config.batch_size  # an incomplete batch is dropped
        self.shapes = settings.network.sat_shape, settings.network.grd_shape
        config = self.config
        with distribution.strategy.scope():
            self.network = build_network(settings.network, config.keep_prob, config.seed, config.precision)
            warmup_steps = round(config.warmup_epochs * self.steps)
            schedule = learning_rate_schedule(config.learning_rate, config.schedule, warmup_steps, config.epochs * self.steps)
            self.optimizer = adam(schedule, config.ema)
            self.optimizer.build(self.network.trainable_variables)
        self.averages = Averages(self.network, self.optimizer)
        self.extractor = DescriptorExtractor(self.network, distribution)
        self.checkpoints = RunCheckpoints(paths.folder, self.network, self.optimizer, distribution, self.averages)
        with self._leavable():
            splits = train_pairs, val_pairs
            self.train_caches, self.val_caches = make_caches(settings.run.cache, splits, self.shapes, self.say)
        self.log = TrainingLog(paths) if distribution.is_chief else None

    def say(self, text):
        """Print a line, in the chief's process."""
        if self.distribution.is_chief:
            print(text, flush=True)

    def begin(self):
        """Restore the run, or give it its starting weights."""
        config, checkpoints = self.config, self.checkpoints
        for note in self.distribution.notes:  # on this machine, the chief's or not
            print(note, flush=True)
        self.say(
            f"{self.train_pairs.dataset.name}: {self.settings.network}; {len(self.train_pairs):,} pairs for training, "
            f"{len(self.val_pairs):,} for validation; on {self.distribution}, {config.precision}"
        )
        restored = self._restore() if self.distribution.is_chief else None
        checkpoints.share()
        epochs, steps = int(checkpoints.epoch.numpy()), int(checkpoints.steps.numpy())
        if restored is not None:
            within = f" and {steps} steps" if steps else ""
            self.say(f"going on after epoch {epochs} of {config.epochs}{within}, from {restored}")
        elif not steps and float(checkpoints.best_recall.numpy()) < 0:
            before = "untrained" if config.continue_from is None else "before training"
            self.say(
                f"weights: {config.continue_from or config.init}; Adam's step {int(self.optimizer.iterations.numpy())}, "
                f"{epochs} epochs done; dropout keeps {config.keep_prob:g} of the activations"
            )
            with self._leavable():
                result = self._validate(before)
            if result is not None:
                self.say(f"{before}: {recall_line(result['pessimistic_recall'])}")

    def _restore(self):
        """Path of the checkpoint that the run continues from; None where it begins. To be called by the chief."""
        config, checkpoints = self.config, self.checkpoints
        restored, notes = checkpoints.restore()
        for note in notes:
            self.say(note)
        if restored is None:
            checkpoints.check_space()
            if config.continue_from is not None:
                step = continue_published(self.network, self.optimizer, config.continue_from, self.settings.network)
                checkpoints.epoch.assign(step // self.steps)
            else:
                left_aside = initialise(self.network, config.init, self.settings.network)
                if left_aside is not None:
                    self.say(left_aside)
            self.log.forget()
        earlier = read_manifest(self.paths.folder)
        now = session() | {"devices": str(self.distribution), "options": dataclasses.asdict(self.settings.run)}
        sessions = [*(earlier.sessions if earlier else []), now]
        name, data = self.train_pairs.dataset.name, data_identity(self.train_pairs)
        manifest = RunManifest(self.settings.network, config, data, sessions, name, __version__)
        write_json(os.path.join(self.paths.folder, MANIFEST), manifest)
        if (kept := self.log.put_foreign_lines_aside()) is not None:
            self.say(f"{self.paths.csv}: held the lines of another run, or of one cut off; kept as {kept}")
        return restored

    def train(self):
        """The epochs that are left."""
        config, checkpoints = self.config, self.checkpoints
        final = self.paths.final
        finished = int(checkpoints.epoch.numpy())
        if finished >= config.epochs:
            if self.distribution.is_chief and not os.path.exists(final):
                self._write_final(final)  # the run ended between its last checkpoint and this
            self.say(f"all {config.epochs} epochs were finished before; raise --epochs to continue")
            return
        loss = batch_loss(config, self.train_pairs.dataset.negative_metres)
        micro_batch = self.settings.run.micro_batch
        step = training_step(self.network, self.optimizer, loss, self.distribution.strategy, micro_batch, config.clip_norm)
        if self.distribution.is_chief and os.path.exists(final):
            os.unlink(final)  # of fewer epochs
        for epoch in range(finished + 1, config.epochs + 1):
            self._epoch(step, epoch)
            if self.stop.signal is not None and not self.distribution.has_others and epoch < config.epochs:
                raise Stopped(self.stop.signal, f"epoch {epoch} is saved")
        if self.distribution.is_chief:
            self._write_final(final)
            self.say(
                f"finished {config.epochs} epochs; best R@1 {100 * checkpoints.best_recall.numpy():.2f}; "
                f"checkpoints in {self.paths.folder}, losses and recalls in {self.paths.csv}"
            )

    def _write_final(self, path):
        with self.averages:
            write_keras_weights(path, self.network)

    def _epoch(self, step, epoch):
        """Steps, validation, a line, a checkpoint."""
        checkpoints = self.checkpoints
        begin = time.perf_counter()
        done = int(checkpoints.steps.numpy())
        loss_sum = self._train_epoch(step, epoch, done)
        trained = time.perf_counter()
        try:
            with self._leavable():
                result = self._validate("validation")
        except Stopped as stopped:
            raise self._save_and_stop(stopped.signal, epoch, self.steps, loss_sum) from None
        checkpoints.epoch.assign(epoch)
        checkpoints.steps.assign(0)
        checkpoints.loss_sum.assign(0.0)
        if result is None:
            return
        # A run that is killed between these repeats the epoch, and writes the same line and checkpoint again.
        rate = (self.steps - done) * self.config.batch_size / (trained - begin)
        seconds, iterations = time.perf_counter() - begin, int(self.optimizer.iterations.numpy())
        self.log.epoch(epoch, loss_sum / self.steps, result["recall"], seconds, rate, iterations)
        if (warning := tie_warning(result)) is not None:
            self.say(f"{warning}; pessimistic: {recall_line(result['pessimistic_recall'])}")
        recall = result["pessimistic_recall"]["1"]  # so a collapsed network is never the best
        best = float(checkpoints.best_recall.numpy())
        checkpoints.best_recall.assign(max(recall, best))
        checkpoints.save(best=recall > best)

    def _train_epoch(self, step, epoch, done):
        """The steps of an epoch after the first `done`, with checkpoints; returns the sum of the epoch's losses."""
        loss_sum = float(self.checkpoints.loss_sum.numpy())
        if done == self.steps:  # stopped in the epoch's validation
            return loss_sum
        run, batch_size = self.settings.run, self.config.batch_size
        clock, meter = SaveClock(*save_interval(run.save_every)), Meter(batch_size)
        vote = StopVote(self.stop, self.distribution.sum_over_processes)

        def begun(number):
            vote.cast()
            last = number == self.steps
            return last or number % run.log_every == 0 or clock.is_due(number) or vote.passed(last)

        with self._progress(epoch, done) as progress:
            for outcome in outcomes(step, meter.timed(self._batches(epoch, done)), done, begun):
                self._check_loss(epoch, outcome)
                loss_sum += outcome.loss
                meter.add(outcome.loss)
                progress.set_postfix(loss=f"{loss_sum / outcome.number:.4f}", refresh=False)
                progress.update(batch_size)
                if not outcome.settled:
                    continue
                last = outcome.number == self.steps
                if vote.passed(last):
                    raise self._save_and_stop(self.stop.signal or signal.SIGTERM, epoch, outcome.number, loss_sum)
                if clock.is_due(outcome.number) and not last:
                    self._save(outcome.number, loss_sum)
                    clock.saved()
                if outcome.number % run.log_every == 0 and self.log is not None:
                    rates = meter.rates() | {"learning rate": float(keras.ops.convert_to_numpy(self.optimizer.learning_rate))}
                    self.log.steps(epoch, outcome.number, self.steps, rates, int(self.optimizer.iterations.numpy()))
        return loss_sum

    def _batches(self, epoch, done):
        """The batches of an epoch after the first `done`, spread over the devices."""
        batch_size, pairs = self.config.batch_size, self.train_pairs
        order = epoch_order(len(pairs), epoch, self.config.seed)[done * batch_size : self.steps * batch_size]
        rows = self.distribution.local_rows(order, batch_size)
        local_size = self.distribution.local_batch_size(batch_size)
        panoramas = self.view.training_panoramas(len(pairs), self.settings.network.width, MEAN_BGR, self.config.seed, epoch)
        augmented = self.augmentation.drawn(pairs, self.config.seed, epoch)
        for batch in batches(pairs, rows, local_size, self.shapes, None, self.train_caches, panoramas, augmented):
            offset, *parts = self.distribution.spread(*batch[:-1])
            yield batch.__class__(*parts, offset)

    def _progress(self, epoch, done):
        quiet = None if self.distribution.is_chief else True
        total, initial = (steps * self.config.batch_size for steps in (self.steps, done))
        return tqdm(total=total, initial=initial, desc=f"epoch {epoch}", unit="pair", leave=False, disable=quiet)

    def _check_loss(self, epoch, outcome):
        where = f"epoch {epoch}, step {outcome.number} of {self.steps}"
        if not np.isfinite(outcome.loss):
            raise UserError(
                f"{where}: the loss is {outcome.loss}, so the run is stopped; the checkpoints of the epochs before are kept. "
                "Use a lower --learning_rate with another --model_dir"
            )
        if outcome.loss == 0 and not self.said_no_negatives:  # no other batch has a loss of 0: the diagonal's is log 2
            self.say(
                f"{where}: a batch without negatives, since all its places are too close to each other; its loss is 0 "
                "(said once)"
            )
            self.said_no_negatives = True

    def _save(self, steps, loss_sum):
        self.checkpoints.steps.assign(steps)
        self.checkpoints.loss_sum.assign(loss_sum)
        self.checkpoints.save()

    def _save_and_stop(self, number, epoch, steps, loss_sum):
        self._save(steps, loss_sum)
        return Stopped(number, f"epoch {epoch} is saved up to step {steps} of {self.steps}")

    def _leavable(self):
        """A context that a signal ends at once; with other processes, which wait for this one, only a step can."""
        return contextlib.nullcontext() if self.distribution.has_others else self.stop.at_once()

    def _validate(self, title):
        """Recalls on the validation split; None in processes that are not the chief's."""
        batch_size, micro_batch = self.config.batch_size, self.settings.run.micro_batch
        if micro_batch is not None:
            batch_size = min(batch_size, micro_batch * self.distribution.replicas)
        with self._averages_after_training():
            descriptors = self.extractor.pairs(
                self.val_pairs, self.shapes, batch_size, title, self.val_caches, self.val_panoramas
            )
        if not self.distribution.is_chief:
            return None
        task, every = task_of(self.val_pairs), self.settings.run.figures_every
        shows = bool(every) and (int(self.checkpoints.epoch.numpy()) + 1) % every == 0
        found = search(*descriptors, task.truth, task.near, WINNERS * shows)
        if shows:
            self._show_queries(task, descriptors, found)
        return recalls(task, found)

    def _show_queries(self, task, descriptors, found):
        """Pictures of a few queries in TensorBoard, the same ones each time."""
        width, panoramas = self.settings.network.width, self.val_panoramas
        tested = FigureSource(self.val_pairs, task, GROUND_TO_AERIAL, *descriptors, None, found, width, panoramas)
        panels = list(retrieval_panels(tested, chosen_queries(task, SHOWN_QUERIES)))
        self.log.picture("validation", contact_sheet(panels), int(self.optimizer.iterations.numpy()))

    def _averages_after_training(self):
        """The averages, which begin with the first step."""
        return self.averages if int(self.optimizer.iterations.numpy()) else contextlib.nullcontext()


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
