"""The CSV file of a run's epochs: a line each, with loss and recalls."""

import csv
import io
import itertools
import math
import os

from safa.runtime.errors import UserError
from safa.runtime.files import ordinary, write_whole

COLUMNS = ("epoch", "loss", "recall@1", "recall@5", "recall@10", "recall@1%", "seconds")


def read_lines(path):
    """The lines of such a CSV file without its header; none where there is no file.

    Raises:
        UserError: it is another file.
    """
    try:
        with open(path, newline="", encoding="utf-8", opener=ordinary) as file:
            lines = [line for line in csv.reader(file) if line]
    except FileNotFoundError:
        return []
    except (UnicodeDecodeError, csv.Error):
        lines = [None]
    if lines[:1] != [list(COLUMNS)] or not all(map(_is_epoch, lines[1:])):
        raise UserError(f"{path}: not a file of losses and recalls; move it away, or use another --result_dir")
    return lines[1:]


def _is_epoch(line):
    """Whether texts are a line of numbers, the first of them whole."""
    try:
        return len(line) == len(COLUMNS) and line[0].isdecimal() and all(map(math.isfinite, map(float, line)))
    except ValueError:
        return False


def find_runs(folders):
    """The epochs of all runs below folders of results: {path without its ending: lines}; other CSV files are left out."""
    runs = {}
    for folder in folders:
        for place, names, files in os.walk(folder):
            names.sort()
            for path in (os.path.join(place, name) for name in sorted(files) if name.endswith(".csv")):
                try:
                    lines = read_lines(path)
                except (UserError, OSError):
                    continue
                if lines:
                    runs[path.removesuffix(".csv")] = lines
    return runs


def write_lines(path, lines):
    """Write a CSV file of these lines."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *lines])
    write_whole(path, text.getvalue().encode())


def put_aside(path):
    """Rename a CSV file of another run; returns its new name."""
    numbers = itertools.count(1)
    kept = next(
        name
        for name in (path.removesuffix(".csv") + f".previous-{number}.csv" for number in numbers)
        if not os.path.exists(name)
    )
    os.replace(path, kept)
    return kept
