"""The training of a network: steps, validation, checkpoints (paper, section 4)."""

import contextlib
import functools
import signal
import time

import keras
import numpy as np
import tensorflow as tf

from input_data import Batch, batches, epoch_order
from safa.datasets.pair_augmentation import AugmentedPairs
from safa.datasets.pair_images import PairImages
from safa.datasets.panorama_views import PanoramaView
from safa.parts import LOSSES, SAMPLERS, build_network
from safa.report.recall_line import recall_line, tie_warning
from safa.retrieval.descriptors import DescriptorExtractor
from safa.retrieval.evaluation import WINNERS, recalls
from safa.retrieval.search import search
from safa.retrieval.task import task_of
from safa.runtime.cluster import say
from safa.runtime.errors import Stopped, UserError
from safa.runtime.interruption import StopVote
from safa.runtime.progress import ProgressBar
from safa.runtime.worker_pool import available_cores
from safa.settings import save_interval
from safa.training.beginning import finish, restore_or_begin, training_session
from safa.training.checkpoints import Progress, RunCheckpoints
from safa.training.log import Meter, TrainingLog
from safa.training.step import adam, learning_rate_schedule, negatives_of, training_step
from safa.training.variables import Averages


def train(settings, train_pairs, val_pairs, paths):
    """Train a network, or continue a run that was stopped, after its last saved step.

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
    unit, save_every = save_interval(options.save_every)
    with training_session(settings, train_pairs, val_pairs, paths) as (distribution, stop):
        run = TrainingRun(settings, train_pairs, val_pairs, paths, distribution)
        progress = restore_or_begin(run, stop)
        step = training_step(run.network, run.optimizer, run.loss, distribution.strategy, options.micro_batch, config.clip_norm)
        for epoch in range(progress.epochs + 1, config.epochs + 1):
            saved_at, vote = time.monotonic(), StopVote(stop, distribution.sum_over_processes)
            meter = Meter(config.batch_size, progress, run.progress_bar(epoch, progress.steps))
            for number, batch in enumerate(meter.timed(run.batches(epoch, progress.steps)), progress.steps + 1):
                loss = step(batch)
                vote.cast()
                is_last = number == run.steps
                stops, logs = vote.passed(is_last), number % options.log_every == 0
                is_due = number % save_every == 0 if unit == "steps" else time.monotonic() - saved_at >= 60 * save_every
                saves = is_due and not is_last
                # The loss before is read while the device computes; this one too where something needs the state after it.
                for finished, value in meter.read(number, loss, wait=is_last or stops or logs or saves):
                    run.check_loss(epoch, finished, value)
                if stops:
                    raise run.saved_and_stopped(progress, stop.signal or signal.SIGTERM, epoch)
                if saves:
                    run.checkpoints.save(progress)
                    saved_at = time.monotonic()
                if logs and run.log is not None:
                    run.log.steps(epoch, number, run.steps, meter.rates(), run.learning_rate, run.adam_steps)
            try:
                result = run.validate("validation", epoch, stop)
            except Stopped as stopped:
                if run.averages.are_in:  # a second signal, while they are exchanged
                    raise
                raise run.saved_and_stopped(progress, stopped.signal, epoch) from None
            mean_loss = progress.loss_sum / run.steps
            progress = Progress(epoch, best_recall=progress.best_recall)
            if result is not None:
                # A run that is killed between these repeats the epoch, and writes the same line and checkpoint again.
                run.log.epoch(epoch, mean_loss, result["recall"], *meter.epoch_rates(), run.adam_steps)
                if (warning := tie_warning(result["tied_queries"], result["queries"])) is not None:
                    say(f"{warning}; pessimistic: {recall_line(result['pessimistic_recall'])}")
                recall = result["pessimistic_recall"]["1"]  # so a collapsed network is never the best
                is_best = recall > progress.best_recall
                progress.best_recall = max(recall, progress.best_recall)
                run.checkpoints.save(progress, best=is_best)
            if stop.signal is not None and not distribution.has_others and epoch < config.epochs:
                raise Stopped(stop.signal, f"epoch {epoch} is saved")
        finish(run, progress)


class TrainingRun:
    """What a run is made of: its network, optimizer, images and files. Arguments as of `train`.

    `log` is None in processes that are not the chief's, `order` without a sampler.
    """

    def __init__(self, settings, train_pairs, val_pairs, paths, distribution):
        config, network_config = settings.training, settings.network
        shapes, cached = (network_config.sat_shape, network_config.grd_shape), settings.run.cache == "memory"
        self.settings, self.paths, self.distribution = settings, paths, distribution
        self.train_images = PairImages.of(train_pairs, shapes, cached=cached)
        with distribution.strategy.scope():
            self.network = build_network(network_config, config.keep_prob, config.seed, config.precision)
            self.loss = LOSSES[config.loss]()
            if isinstance(self.loss, keras.layers.Layer):
                self.loss(*2 * [keras.ops.zeros((2, self.network.sat.dimension))], None)  # makes its weights
                self.network.loss_layer = self.loss
            if config.batch_hard_count:
                self.loss = functools.partial(self.loss, batch_hard_count=config.batch_hard_count)
            warmup_steps = round(config.warmup_epochs * self.steps)
            rate = learning_rate_schedule(config.learning_rate, config.schedule, warmup_steps, config.epochs * self.steps)
            self.optimizer = adam(rate, config.ema)
            self.optimizer.build(self.network.trainable_variables)
        self.view = PanoramaView(config.train_fov, config.random_heading)
        val_panoramas = self.view.panoramas(len(val_pairs), network_config.width, self.network.grd.fill)
        self.val_images = PairImages.of(val_pairs, shapes, val_panoramas, cached)
        self.averages = Averages(self.network, self.optimizer)
        self.extractor = DescriptorExtractor(self.network, distribution)
        self.order = None if SAMPLERS[config.sampler] is None else tf.Variable(np.arange(len(train_pairs)))
        self.checkpoints = RunCheckpoints(paths.folder, self.network, self.optimizer, distribution, self.order)
        self.log = TrainingLog(paths) if distribution.is_chief else None
        for note in distribution.notes:  # on this machine, the chief's or not
            print(note, flush=True)

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

    @property
    def describing_batch_size(self):
        """Images whose descriptors are computed at a time."""
        batch_size, micro_batch = self.settings.training.batch_size, self.settings.run.micro_batch
        return batch_size if micro_batch is None else min(batch_size, micro_batch * self.distribution.replicas)

    def progress_bar(self, epoch, done):
        """A bar of an epoch's pairs, in the chief's process."""
        total, initial = (steps * self.settings.training.batch_size for steps in (self.steps, done))
        return ProgressBar(None, f"epoch {epoch}", total, "pairs", initial, quiet=not self.distribution.is_chief)

    def batches(self, epoch, done):
        """The batches of an epoch after the first `done`, spread over the devices."""
        config, pairs, width = self.settings.training, self.train_images.pairs, self.settings.network.width
        augmented = AugmentedPairs.drawn(pairs, config.rotate_pairs, config.flip_pairs, config.seed, epoch)
        panoramas = self.view.panoramas(len(pairs), width, self.network.grd.fill, (config.seed, epoch))
        images = self.train_images.changed(augmented, panoramas)
        order = self.order_of_epoch(epoch, done)[done * config.batch_size : self.steps * config.batch_size]
        rows, local_size = self.distribution.local_rows(order, config.batch_size)
        for number, batch in enumerate(batches(images, rows, local_size, available_cores())):
            whole = order[number * config.batch_size :][: config.batch_size]
            own_rows, _ = self.distribution.local_rows(whole, config.batch_size)
            offset, *shares = self.distribution.spread(batch.sat, batch.grd, negatives_of(pairs, own_rows, whole))
            yield Batch(*shares, offset)

    def order_of_epoch(self, epoch, done):
        """The order of an epoch's pairs, (Q,) int64, the same in all processes, which call this together.

        What a sampler draws, checkpoints hold, for a run that is stopped within the epoch: with `done` steps taken, it is the
        order that the epoch began with. Raises ValueError if a sampler's does not hold each pair once.
        """
        pairs, config = self.train_images.pairs, self.settings.training
        if self.order is None:
            return epoch_order(len(pairs), epoch, config.seed)
        if not done:
            descriptors = self.extractor.pairs(self.train_images, self.describing_batch_size, f"pairs of epoch {epoch}")
            if self.distribution.is_chief:
                order = SAMPLERS[config.sampler](pairs, epoch, config.seed, config.batch_size, *descriptors)
                if not np.array_equal(np.sort(order), np.arange(len(pairs))):
                    raise ValueError(f"--sampler {config.sampler}: its order does not hold each of {len(pairs)} pairs once")
                self.order.assign(order)
            self.distribution.share_chiefs_values([self.order])
        return self.order.numpy()

    def check_loss(self, epoch, number, loss):
        """Refuse to go on with a loss that is not finite."""
        where = f"epoch {epoch}, step {number} of {self.steps}"
        if not np.isfinite(loss):
            remedy = "use a lower --learning_rate with another --model_dir"
            raise UserError(f"{where}: the loss or its gradient is {loss}; {remedy}")
        if loss == 0:
            say(f"{where}: the loss of this batch is 0; the paper's is where all places are too close to be negatives")

    def saved_and_stopped(self, progress, number, epoch):
        """Save the run in the middle of an epoch; returns the Stopped to raise for signal `number`."""
        self.checkpoints.save(progress)
        return Stopped(number, f"epoch {epoch} is saved up to step {progress.steps} of {self.steps}")

    def validate(self, title, epoch, stop):
        """Recalls on the validation split (`retrieval.evaluation.recalls`); None in processes that are not the chief's."""
        averages = self.averages if self.adam_steps else contextlib.nullcontext()  # they begin with the first step
        # A signal ends it at once, but for other processes, which wait for this one; and never the exchange of weights.
        with averages, contextlib.nullcontext() if self.distribution.has_others else stop.at_once():
            references, queries = self.extractor.pairs(self.val_images, self.describing_batch_size, title)
        if not self.distribution.is_chief:
            return None
        task, every = task_of(self.val_images.pairs), self.settings.run.figures_every
        shows = bool(every and epoch) and epoch % every == 0
        found = search(references, queries, task.truth, task.near, WINNERS * shows, "GPU:0")
        if shows:
            from safa.report.figures import validation_sheet

            self.log.picture("validation", validation_sheet(self.val_images, task, found), self.adam_steps)
        return recalls(task, found)
