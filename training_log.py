"""What a run reports: lines, the CSV file of its epochs, and TensorBoard's scalars."""
import csv
import io
import itertools
import os
import sys

import backend  # noqa: F401

import tensorflow as tf

from errors import UserError
from evaluation import recall_line
from image_files import write_whole

COLUMNS = ("epoch", "loss", "recall@1", "recall@5", "recall@10", "recall@1%", "seconds")


class TrainingLog:
    """Lines on standard output, a CSV file with a line an epoch, and TensorBoard's event files.

    Args:
        csv_path: file for the losses and recalls of the epochs.
        tensorboard_dir: folder for the event files.
    """

    def __init__(self, csv_path, tensorboard_dir):
        os.makedirs(os.path.dirname(csv_path), exist_ok=True)
        self.csv_path = csv_path
        self._writer = tf.summary.create_file_writer(tensorboard_dir)

    def steps(self, epoch, number, steps, rates, step):
        """Report the steps since the last such report.

        Args:
            epoch, number, steps: epoch, the last of the steps in it, and how many it has.
            rates: {"loss", "pairs/s", "input wait": share of the time, "learning rate"}, means over these steps.
            step: of Adam.
        """
        print(f"epoch {epoch}, step {number} of {steps}: loss {rates['loss']:.4f}, {rates['pairs/s']:.1f} pairs/s, "
              f"{100 * rates['input wait']:.0f} % waiting for input, learning rate {rates['learning rate']:.3g}",
              flush=True)
        self._scalars({f"steps/{name}": value for name, value in rates.items()}, step)

    def epoch(self, epoch, loss, recalls, seconds, rate, step):
        """Report an epoch: its mean loss, recalls as fractions, seconds, pairs/s, Adam's step."""
        print(f"epoch {epoch}: loss {loss:.4f}  {recall_line(recalls)}  {seconds:.1f} s, {rate:.1f} pairs/s", flush=True)
        write_line(self.csv_path, (epoch, f"{loss:.6f}", *(f"{value:.6f}" for value in recalls.values()),
                                   f"{seconds:.2f}"))
        self._scalars({"epochs/loss": loss} | {f"epochs/recall@{k}": value for k, value in recalls.items()}, step)

    def _scalars(self, values, step):
        try:
            with self._writer.as_default(step):
                for name, value in values.items():
                    tf.summary.scalar(name, value)
            self._writer.flush()
        except tf.errors.OpError as error:  # pictures are not worth a run
            print(f"TensorBoard's files cannot be written ({error.message.splitlines()[0][:200]})", file=sys.stderr)


def read_lines(path):
    """The lines of a CSV file of this module without its header; none where there is no file.

    Raises:
        UserError: it is another file.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            lines = [line for line in csv.reader(file) if line]
    except FileNotFoundError:
        return []
    except (UnicodeDecodeError, csv.Error):
        lines = [None]
    if lines[:1] != [list(COLUMNS)] or not all(line[0].isdecimal() for line in lines[1:]):
        raise UserError(f"{path}: not a file of losses and recalls; move it away, or use another --result_dir")
    return lines[1:]


def write_line(path, row):
    """Put an epoch's line into the CSV file, in place of its own and later ones from a run that was stopped."""
    lines = [line for line in read_lines(path) if int(line[0]) < row[0]]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *lines, row])
    write_whole(path, text.getvalue().encode())


def put_aside(path):
    """Rename a CSV file of another run; returns its new name."""
    numbers = itertools.count(1)
    kept = next(name for name in (path.removesuffix(".csv") + f".previous-{number}.csv" for number in numbers)
                if not os.path.exists(name))
    os.replace(path, kept)
    return kept
