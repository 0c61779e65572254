"""What a run reports: lines, the CSV file of its epochs, and TensorBoard's scalars."""

import collections
import contextlib
import os
import sys
import time

import tensorflow as tf

from safa.report.epoch_lines import read_lines, write_lines
from safa.report.recall_line import recall_line
from safa.runtime.errors import first_line
from safa.runtime.files import put_aside, remove_abandoned

TENSORBOARD = "tensorboard"


class TrainingLog:
    """Lines on standard output, a CSV file with a line an epoch, and TensorBoard's event files.

    Args:
        paths: training.run_folder.RunPaths. The CSV file has a copy in the run's folder, which tells whether it is its own.
    """

    def __init__(self, paths):
        os.makedirs(os.path.dirname(paths.csv), exist_ok=True)
        remove_abandoned(os.path.dirname(paths.csv))
        self.csv_path, self._own_path = paths.csv, paths.own_csv
        try:
            self._writer = tf.summary.create_file_writer(os.path.join(paths.folder, TENSORBOARD))
        except tf.errors.OpError as error:
            self._writer = tf.summary.create_noop_writer()
            _complain(error)

    def put_foreign_lines_aside(self):
        """Keep a CSV file that is not this run's under another name, and write its own; returns the name, or None."""
        lines, own = read_lines(self.csv_path), read_lines(self._own_path)
        kept = put_aside(self.csv_path) if lines != own[: len(lines)] else None
        if lines != own or not own:  # without a line too: what cannot be written shows before the first epoch
            write_lines(self.csv_path, own)
        return kept

    def steps(self, epoch, number, steps, rates, learning_rate, step):
        """Report the steps since the last such report.

        `number`: the last of them, of the epoch's `steps`; `rates`: of `Meter.rates`; `learning_rate`: of the next step;
        `step`: Adam's.
        """
        pace = f"{rates['pairs/s']:.1f} pairs/s, {100 * rates['input wait']:.0f} % waiting for input"
        where = f"epoch {epoch}, step {number} of {steps}"
        print(f"{where}: loss {rates['loss']:.4f}, {pace}, learning rate {learning_rate:.3g}", flush=True)
        rates = rates | {"learning rate": learning_rate}
        self._scalars({f"steps/{name}": value for name, value in rates.items()}, step)

    def epoch(self, epoch, loss, recalls, seconds, rate, step):
        """Report an epoch: its mean loss, recalls as fractions, seconds, pairs/s, Adam's step."""
        print(f"epoch {epoch}: loss {loss:.4f}  {recall_line(recalls)}  {seconds:.1f} s, {rate:.1f} pairs/s", flush=True)
        row = (str(epoch), f"{loss:.6f}", *(f"{value:.6f}" for value in recalls.values()), f"{seconds:.2f}")
        lines = [line for line in read_lines(self._own_path) if int(line[0]) < epoch]  # without those of a stopped run
        for path in self._own_path, self.csv_path:
            write_lines(path, [*lines, row])
        self._scalars({"epochs/loss": loss} | {f"epochs/recall@{k}": value for k, value in recalls.items()}, step)

    def picture(self, name, pixels, step):
        """Show a picture in TensorBoard: (H, W, 3) uint8, BGR."""
        with self._tensorboard(step):
            tf.summary.image(name, pixels[None, ..., ::-1])

    def _scalars(self, values, step):
        with self._tensorboard(step):
            for name, value in values.items():
                tf.summary.scalar(name, value)

    @contextlib.contextmanager
    def _tensorboard(self, step):
        """A context for summaries of a step; what goes wrong with them is not worth a run."""
        try:
            with self._writer.as_default(step):
                yield
            self._writer.flush()
        except tf.errors.OpError as error:
            _complain(error)


def _complain(error):
    print(f"TensorBoard's files cannot be written ({first_line(error)})", file=sys.stderr)


class Meter:
    """Losses of an epoch's steps, each read while a later step computes, and the pace since the last report.

    Args:
        batch_size: pairs of a step.
        progress: checkpoints.Progress of the run, whose `steps` and `loss_sum` follow what was read.
        bar: ProgressBar of the epoch's pairs.
    """

    def __init__(self, batch_size, progress, bar):
        self._batch_size, self._progress, self._bar = batch_size, progress, bar
        self._begin, self._steps = time.perf_counter(), 0
        self._unread = collections.deque()
        self._report_begins()

    def _report_begins(self):
        self._losses, self._waited, self._began = [], 0.0, time.perf_counter()

    def timed(self, batches):
        """Yield the batches, and count the time that they are waited for."""
        with self._bar:
            while True:
                began = time.perf_counter()
                batch = next(batches, None)
                self._waited += time.perf_counter() - began
                if batch is None:
                    self._trained = time.perf_counter()
                    return
                yield batch

    def read(self, number, loss, wait):
        """Yield the number and the loss of each step that is read now.

        Args:
            number, loss: of the step that has just begun; the loss need not be there yet.
            wait: whether to wait for it; else only earlier steps are read, and the device is never idle.
        """
        self._unread.append((number, loss))
        while len(self._unread) > (0 if wait else 1):
            number, loss = self._unread.popleft()
            loss = float(loss)
            self._losses.append(loss)
            self._steps += 1
            self._progress.steps, self._progress.loss_sum = number, self._progress.loss_sum + loss
            self._bar.set_postfix(loss=f"{self._progress.loss_sum / number:.4f}", refresh=False)
            self._bar.update(self._batch_size)
            yield number, loss

    def rates(self):
        """{"loss", "pairs/s", "input wait": share of the time} since the last report."""
        seconds, steps = time.perf_counter() - self._began, len(self._losses)
        loss, wait = sum(self._losses) / steps, self._waited / seconds
        self._report_begins()
        return {"loss": loss, "pairs/s": steps * self._batch_size / seconds, "input wait": wait}

    def epoch_rates(self):
        """Seconds since the epoch began here, and pairs/s of its steps."""
        return time.perf_counter() - self._begin, self._steps * self._batch_size / (self._trained - self._begin)
