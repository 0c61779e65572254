"""What a run reports: lines, the CSV file of its epochs, and TensorBoard's scalars."""

import os
import sys

import tensorflow as tf

from safa.report.epoch_lines import put_aside, read_lines, write_lines
from safa.report.tables import recall_line
from safa.runtime.errors import first_line
from safa.runtime.files import remove_abandoned

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

    def forget(self):
        """Begin a new run: lines of an earlier one in its folder do not count."""
        if os.path.exists(self._own_path):
            os.unlink(self._own_path)

    def put_foreign_lines_aside(self):
        """Keep a CSV file that is not this run's under another name, and write its own; returns the name, or None."""
        lines, own = read_lines(self.csv_path), read_lines(self._own_path)
        if lines == own:
            return None
        kept = put_aside(self.csv_path) if lines and lines != own[: len(lines)] else None
        if own:
            write_lines(self.csv_path, own)
        return kept

    def steps(self, epoch, number, steps, rates, step):
        """Report the steps since the last such report.

        Args:
            epoch, number, steps: epoch, the last of the steps in it, and how many it has.
            rates: {"loss", "pairs/s", "input wait": share of the time, "learning rate"}, means over these steps.
            step: of Adam.
        """
        print(
            f"epoch {epoch}, step {number} of {steps}: loss {rates['loss']:.4f}, {rates['pairs/s']:.1f} pairs/s, "
            f"{100 * rates['input wait']:.0f} % waiting for input, learning rate {rates['learning rate']:.3g}",
            flush=True,
        )
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
        try:
            with self._writer.as_default(step):
                tf.summary.image(name, pixels[None, ..., ::-1])
            self._writer.flush()
        except tf.errors.OpError as error:
            _complain(error)

    def _scalars(self, values, step):
        try:
            with self._writer.as_default(step):
                for name, value in values.items():
                    tf.summary.scalar(name, value)
            self._writer.flush()
        except tf.errors.OpError as error:  # pictures are not worth a run
            _complain(error)


def _complain(error):
    print(f"TensorBoard's files cannot be written ({first_line(error)})", file=sys.stderr)
