"""The CSV file of a run's epochs: a line each, with loss and recalls."""

import contextlib
import math
import pathlib

from safa.runtime.errors import UserError
from safa.runtime.files import files_below, read_file, write_whole

COLUMNS = ["epoch", "loss", "recall@1", "recall@5", "recall@10", "recall@1%", "seconds"]


def read_lines(path):
    """The lines of such a CSV file without its header, lists of texts; none without a file, UserError for another one."""
    try:
        lines = [line.split(",") for line in read_file(path).decode().splitlines() if line]
        if lines[:1] != [COLUMNS] or not all(map(_is_epoch, lines[1:])):
            raise ValueError
    except FileNotFoundError:
        return []
    except ValueError:  # UnicodeDecodeError is one
        raise UserError(f"{path}: not a file of losses and recalls; move it away, or use another --result_dir") from None
    return lines[1:]


def _is_epoch(line):
    """Whether texts are a line of numbers, the first of them whole; ValueError where they are not numbers."""
    return len(line) == len(COLUMNS) and line[0].isdecimal() and all(map(math.isfinite, map(float, line)))


def find_runs(folders):
    """The epochs of all runs below folders of results: {path without its ending: lines}; other CSV files are left out."""
    runs = {}
    for path in (path for folder in folders for path in files_below(pathlib.Path(folder), "*.csv")):
        with contextlib.suppress(UserError, OSError):
            if lines := read_lines(str(path)):
                runs[str(path.with_suffix(""))] = lines
    return runs


def write_lines(path, lines):
    """Write a CSV file of these lines, lists of texts."""
    write_whole(path, "".join(",".join(line) + "\n" for line in [COLUMNS, *lines]).encode())
