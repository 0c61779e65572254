"""A training run: epochs of steps, validation, checkpoints (paper, section 4)."""

from runtime import backend  # noqa: F401
from runtime.distribution import Distribution, understood
from runtime.errors import Stopped, UserError
from runtime.files import write_whole
from runtime.folder_lock import open_lock
from runtime.interruption import StopRequest
from runtime.provenance import session

import contextlib
import dataclasses
import os
import signal
import time

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from datasets.image_cache import make_caches
from input_data import batches, epoch_order
from retrieval.evaluation import Describer, evaluate, recall_line, tie_warning
from settings import SETTINGS, data_identity, read_settings, settings_text
from spatial_net import network as build_network
from training.checkpoints import RunCheckpoints, write_keras_weights
from training.initial_weights import continue_published, initialise
from training.log import TrainingLog, read_lines
from training.step import adam, learning_rate_schedule, training_step

LOCK = ".lock"  # held by the process that trains in a folder
FINAL = "final.weights.h5"


def train(
    network_config, training_config, run_config, train_pairs, val_pairs, folder, csv_path, cache_dir=None, negative_metres=None
):
    """Train a network, or go on with a run that was stopped, after its last saved step.

    After every epoch: recall on the validation split, a line in the CSV file, a checkpoint.

    Args:
        network_config, training_config, run_config: configuration.NetworkConfig, TrainingConfig and RunConfig.
        train_pairs, val_pairs: dataset.Pairs.
        folder: for checkpoints.
        csv_path: file for losses and recalls.
        cache_dir: folder for decoded images, for `run_config.cache` "disk".
        negative_metres: pairs closer than this are not negatives of each other; None: all other pairs are.

    Raises:
        UserError: weights cannot be had, the devices do not fit the batch, or the loss is not finite any more.
        Stopped: by a signal, after saving.
    """
    read_lines(csv_path)  # refuses what is not one, before anything is written
    if run_config.deterministic:
        tf.config.experimental.enable_op_determinism()
        keras.utils.set_random_seed(training_config.seed)
    distribution = Distribution(run_config.devices, training_config.precision)
    _check_shares(training_config.batch_size, distribution.replicas, run_config.micro_batch)
    with contextlib.ExitStack() as stack:
        if distribution.is_chief:
            os.makedirs(folder, exist_ok=True)
            if not stack.enter_context(open_lock(os.path.join(folder, LOCK))).take_alone():
                raise UserError(
                    f"{folder}: another run is training there at the moment; wait for it, or use another --model_dir"
                )
        stack.enter_context(
            understood(
                distribution,
                "a smaller --micro_batch" if run_config.micro_batch else "--micro_batch, which needs less for the same result",
            )
        )
        distribution.agree(
            repr(
                (
                    network_config,
                    training_config,
                    run_config.micro_batch,
                    run_config.deterministic,
                    *map(data_identity, (train_pairs, val_pairs)),
                )
            )
        )
        stop = stack.enter_context(StopRequest())
        run = _Run(
            network_config, training_config, run_config, train_pairs, val_pairs, folder, csv_path, cache_dir, distribution, stop
        )
        run.begin()
        run.train(negative_metres)


class _Run:
    """What the parts of a run share; the arguments are those of `train`."""

    def __init__(
        self,
        network_config,
        training_config,
        run_config,
        train_pairs,
        val_pairs,
        folder,
        csv_path,
        cache_dir,
        distribution,
        stop,
    ):
        self.network_config, self.training_config, self.run_config = network_config, training_config, run_config
        self.train_pairs, self.val_pairs = train_pairs, val_pairs
        self.folder, self.csv_path = folder, csv_path
        self.distribution, self.stop = distribution, stop
        self.said_no_negatives = False
        self.steps = len(train_pairs) // training_config.batch_size  # an incomplete batch is dropped
        with distribution.strategy.scope():
            self.network = build_network(
                network_config, training_config.keep_prob, training_config.seed, training_config.precision
            )
            self.optimizer = adam(
                learning_rate_schedule(
                    training_config.learning_rate,
                    training_config.schedule,
                    round(training_config.warmup_epochs * self.steps),
                    training_config.epochs * self.steps,
                )
            )
            self.optimizer.build(self.network.trainable_variables)
        self.describer = Describer(self.network, distribution)
        self.checkpoints = RunCheckpoints(folder, self.network, self.optimizer, distribution)
        shapes = network_config.sat_shape, network_config.grd_shape
        with self._leavable():
            self.train_cache, self.val_cache = make_caches(run_config.cache, (train_pairs, val_pairs), shapes, cache_dir)
        self.log = TrainingLog(csv_path, folder) if distribution.is_chief else None

    def say(self, text):
        if self.distribution.is_chief:
            print(text, flush=True)

    def begin(self):
        """Restore the run, or give it its starting weights."""
        config, checkpoints = self.training_config, self.checkpoints
        self.say(
            f"{self.train_pairs.dataset}: {self.network_config}; {len(self.train_pairs):,} pairs for training, "
            f"{len(self.val_pairs):,} for validation; on {self.distribution}, {config.precision}"
        )
        if self.distribution.is_chief:
            restored = checkpoints.restore()
            if restored is None:
                checkpoints.check_space()
                if config.continue_from is not None:
                    step = continue_published(self.network, self.optimizer, config.continue_from, self.network_config)
                    checkpoints.epoch.assign(step // self.steps)
                else:
                    initialise(self.network, config.init, self.network_config)
            self._note_session()
            self._put_foreign_lines_aside(restored is None)
        checkpoints.share()
        epochs, steps = int(checkpoints.epoch.numpy()), int(checkpoints.steps.numpy())
        if self.distribution.is_chief and restored is not None:
            self.say(
                f"going on after epoch {epochs} of {config.epochs}{f' and {steps} steps' if steps else ''}, from {restored}"
            )
        elif self._is_new():
            before = "untrained" if config.continue_from is None else "before training"
            self.say(
                f"weights: {config.continue_from or config.init}; Adam's step "
                f"{int(self.optimizer.iterations.numpy())}, {epochs} epochs done; dropout keeps "
                f"{config.keep_prob:g} of the activations"
            )
            with self._leavable():
                result = self._validate(before)
            if result is not None:
                self.say(f"{before}: {recall_line(result['pessimistic_recall'])}")

    def train(self, negative_metres):
        """The epochs that are left."""
        config, checkpoints = self.training_config, self.checkpoints
        finished = int(checkpoints.epoch.numpy())
        if finished >= config.epochs:
            if self.distribution.is_chief and not os.path.exists(os.path.join(self.folder, FINAL)):
                self._write_final_weights()  # the run ended between its last checkpoint and this
            self.say(f"all {config.epochs} epochs were finished before; use more --epochs to go on")
            return
        step = training_step(
            self.network,
            self.optimizer,
            self.distribution.strategy,
            negative_metres,
            config.batch_hard_count,
            self.run_config.micro_batch,
            config.clip_norm,
        )
        if self.distribution.is_chief and os.path.exists(os.path.join(self.folder, FINAL)):
            os.unlink(os.path.join(self.folder, FINAL))  # of fewer epochs
        for epoch in range(finished + 1, config.epochs + 1):
            begin = time.perf_counter()
            before = int(checkpoints.steps.numpy())
            loss_sum = self._train_epoch(step, epoch, before)
            trained = time.perf_counter()
            try:
                with self._leavable():
                    result = self._validate("validation")
            except Stopped as stopped:
                raise self._save_and_stop(stopped.signal, epoch, self.steps, loss_sum) from None
            checkpoints.epoch.assign(epoch)
            checkpoints.steps.assign(0)
            checkpoints.loss_sum.assign(0.0)
            if result is not None:
                # A run that is killed between these repeats the epoch, and writes the same line and checkpoint again.
                rate = (self.steps - before) * config.batch_size / (trained - begin)
                self.log.epoch(
                    epoch,
                    loss_sum / self.steps,
                    result["recall"],
                    time.perf_counter() - begin,
                    rate,
                    int(self.optimizer.iterations.numpy()),
                )
                if (warning := tie_warning(result)) is not None:
                    self.say(f"{warning}; pessimistic: {recall_line(result['pessimistic_recall'])}")
                recall = result["pessimistic_recall"]["1"]  # so that a collapsed network is never the best
                best = float(checkpoints.best_recall.numpy())
                checkpoints.best_recall.assign(max(recall, best))
                checkpoints.save(best=recall > best)
            if self.stop.signal is not None and not self.distribution.has_others and epoch < config.epochs:
                raise Stopped(self.stop.signal, f"epoch {epoch} is saved")
        if self.distribution.is_chief:
            self._write_final_weights()
            self.say(
                f"finished {config.epochs} epochs; best R@1 {100 * checkpoints.best_recall.numpy():.2f}; "
                f"checkpoints in {self.folder}, losses and recalls in {self.csv_path}"
            )

    def _train_epoch(self, step, epoch, done):
        """The steps of an epoch after the first `done`, with checkpoints; returns the sum of the epoch's losses."""
        loss_sum = float(self.checkpoints.loss_sum.numpy())
        if done == self.steps:  # stopped in the epoch's validation
            return loss_sum
        batch_size = self.training_config.batch_size
        order = epoch_order(len(self.train_pairs), epoch, self.training_config.seed)[: self.steps * batch_size]
        reader = batches(
            self.train_pairs,
            self.distribution.local_rows(order[done * batch_size :], batch_size),
            self.distribution.local_batch_size(batch_size),
            self.network_config.sat_shape,
            self.network_config.grd_shape,
            cache=self.train_cache,
        )
        meter = _Meter(batch_size)
        saved = time.monotonic()
        pending, stops = None, 0

        def account(number):
            """Look at the outcome of a step: one later than it began, so that the device is never waited for."""
            nonlocal loss_sum, pending
            loss, stops = (each.numpy() for each in pending)
            pending = None
            if not np.isfinite(loss):
                raise UserError(
                    f"epoch {epoch}, step {number} of {self.steps}: the loss is {loss}, so the run is stopped; the "
                    f"checkpoints of the epochs before are kept. Use a lower --learning_rate with another --model_dir"
                )
            if loss == 0 and not self.said_no_negatives:  # no other batch has a loss of 0: the diagonal's is log 2
                self.say(
                    f"epoch {epoch}, step {number} of {self.steps}: a batch without negatives, since all its places "
                    "are too close to each other; its loss is 0 (said once)"
                )
                self.said_no_negatives = True
            loss_sum += float(loss)
            meter.loss += float(loss)
            progress.set_postfix(loss=f"{loss_sum / number:.4f}", refresh=False)
            progress.update(batch_size)
            return stops

        with tqdm(
            total=len(order),
            initial=done * batch_size,
            desc=f"epoch {epoch}",
            unit="pair",
            leave=False,
            disable=None if self.distribution.is_chief else True,
        ) as progress:
            for number in range(done + 1, self.steps + 1):
                waiting = time.perf_counter()
                sat, grd, rows = next(reader)
                meter.waited += time.perf_counter() - waiting
                utm = None if self.train_pairs.utm is None else self.train_pairs.utm[rows]
                arrays = self.distribution.spread(sat, grd, *([] if utm is None else [utm]))
                outcome = step(
                    *arrays, *([None] if utm is None else []), self.distribution.everywhere(float(self.stop.signal is not None))
                )
                if pending is not None:
                    stops = account(number - 1)
                pending = outcome
                meter.steps += 1
                unit, every = self.run_config.save_every
                due = time.monotonic() - saved >= 60 * every if unit == "minutes" else number % every == 0
                ends, stops = stops, 0
                if ends or due or number == self.steps or number % self.run_config.log_every == 0:
                    stops = account(number)
                # A request of any process reaches all of them with the same step. They act on it after the next one,
                # also where this process has looked at it early, so that none waits for another that has left.
                if ends or number == self.steps and stops:
                    raise self._save_and_stop(self.stop.signal or signal.SIGTERM, epoch, number, loss_sum)
                if due and number < self.steps:
                    self._save(number, loss_sum)
                    saved = time.monotonic()
                if number % self.run_config.log_every == 0 and self.log is not None:
                    learning_rate = float(keras.ops.convert_to_numpy(self.optimizer.learning_rate))
                    self.log.steps(
                        epoch,
                        number,
                        self.steps,
                        meter.rates() | {"learning rate": learning_rate},
                        int(self.optimizer.iterations.numpy()),
                    )
        return loss_sum

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
        batch_size = self.training_config.batch_size
        if self.run_config.micro_batch is not None:
            batch_size = min(batch_size, self.run_config.micro_batch * self.distribution.replicas)
        descriptors = self.describer(self.val_pairs, self.network_config, batch_size, title, self.val_cache)
        return evaluate(*descriptors) if self.distribution.is_chief else None

    def _is_new(self):
        return not int(self.checkpoints.steps.numpy()) and float(self.checkpoints.best_recall.numpy()) < 0

    def _note_session(self):
        earlier = read_settings(self.folder)
        now = session() | {"devices": str(self.distribution), "options": dataclasses.asdict(self.run_config)}
        sessions = ([] if earlier is None else earlier["sessions"]) + [now]
        write_whole(
            os.path.join(self.folder, SETTINGS),
            settings_text(self.network_config, self.training_config, data_identity(self.train_pairs), sessions).encode(),
        )

    def _put_foreign_lines_aside(self, is_new):
        if is_new:
            self.log.forget()
        if (kept := self.log.put_foreign_lines_aside()) is not None:
            self.say(f"{self.csv_path}: held the lines of another run, or of one cut off; kept as {kept}")

    def _write_final_weights(self):
        write_keras_weights(os.path.join(self.folder, FINAL), self.network)


class _Meter:
    """Means since the last report."""

    def __init__(self, batch_size):
        self.batch_size = batch_size
        self._begin()

    def _begin(self):
        self.steps, self.loss, self.waited, self.began = 0, 0.0, 0.0, time.perf_counter()

    def rates(self):
        seconds = time.perf_counter() - self.began
        rates = {
            "loss": self.loss / self.steps,
            "pairs/s": self.steps * self.batch_size / seconds,
            "input wait": self.waited / seconds,
        }
        self._begin()
        return rates


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
