"""The result file of a test: what was tested, recalls with their intervals, and the ranks, for every later statistic."""

import base64
import json
import os
import re
import zlib

import numpy as np

from safa.retrieval.task import DIRECTIONS, GROUND_TO_AERIAL
from safa.runtime.errors import UserError, first_line, shortened
from safa.runtime.files import read_json, write_whole

PACKED = "base64 of zlib of little-endian int32"
MOST_QUERIES = 10**8
MOST_COST = 1e15  # parameters, GMAC, values of a descriptor or milliseconds: far beyond any network's
RECALLS = ("1", "5", "10", "1%")
NAME = re.compile(r"[\w .+-]{1,200}")  # of datasets, runs and recalls: nothing that a terminal, LaTeX or a figure would obey
# What results of earlier versions lack.
EARLIER = {"run": None, "seed": 0, "trained_on": None, "direction": GROUND_TO_AERIAL, "view": "", "query_ids": None}
EARLIER |= {"intervals": {}, "ranks": {}, "cost": {}, "tied_queries": 0}


class NoResult(Exception):
    """A file that is no result; the text says why."""


def write_result(path, result):
    """Write a result: what was tested, and what `retrieval.evaluation.evaluate` returns; the ranks are packed.

    Raises:
        OSError: the file cannot be written.
    """
    ranks = {name: pack(rank) for name, rank in result["ranks"].items()} | {"packed": PACKED}
    write_whole(path, json.dumps(result | {"ranks": ranks}, indent=2).encode())


def pack(ranks):
    """(Q,) integers below 2**31 as text."""
    return base64.b64encode(zlib.compress(np.asarray(ranks, "<i4").tobytes(), 9)).decode()


def unpack(text, count):
    """The (count,) int64 of a packed text.

    Raises:
        ValueError: it is not one of so many numbers.
    """
    decompressor = zlib.decompressobj()
    try:
        content = decompressor.decompress(base64.b64decode(text, validate=True), 4 * count + 1)
    except (zlib.error, TypeError) as error:
        raise ValueError(f"ranks that are not packed ({error})") from None
    if len(content) != 4 * count:
        raise ValueError(f"ranks that are not of {count:,} queries")
    return np.frombuffer(content, "<i4").astype(np.int64)


def read_result(path):
    """A result file's content, checked as far as tables and figures use it; earlier versions' lack some entries.

    Returns:
        As `write_result` takes it: dict, with "ranks" unpacked or {}.

    Raises:
        NoResult: it is none.
    """
    try:
        result = read_json(path, dict, "name the result file of a test")
        return _checked(result)
    except OSError as error:
        raise NoResult(error.strerror or str(error)) from None
    except UserError as error:
        raise NoResult(str(error).removeprefix(f"{shortened(path)}: ")) from None
    except UnicodeDecodeError:
        raise NoResult("not a text file") from None
    except json.JSONDecodeError as error:
        raise NoResult(f"broken JSON ({first_line(error)})") from None
    except (KeyError, TypeError, AttributeError) as error:
        raise NoResult(f"not a result of a test ({first_line(repr(error))})") from None
    except ValueError as error:
        raise NoResult(f"not a result of a test ({first_line(error)})") from None


def _checked(result):
    if not isinstance(result, dict) or not {"dataset", "split", "network_type", "polar", "recall"} <= set(result):
        raise NoResult("another program's JSON file")
    for name, value in EARLIER.items():
        result.setdefault(name, value)
    for name in "dataset", "split", "network_type":
        _check_name(name, result[name])
    for name in "run", "trained_on", "query_ids":
        if result[name] is not None:
            _check_name(name, result[name])
    if result["view"] != "":
        _check_name("view", result["view"])
    for name, allowed in {"polar": (0, 1), "direction": DIRECTIONS}.items():
        if result[name] not in allowed:
            raise ValueError(f"{name} is {shortened(result[name], 40)!r}")
    queries, references = result["queries"], result["references"]
    for count in queries, references:
        if type(count) is not int or not 0 < count <= MOST_QUERIES:
            raise ValueError(f"{shortened(count, 40)} queries or references")
    if type(result["seed"]) is not int or not 0 <= result["seed"] < 2**31:
        raise ValueError(f"seed is {shortened(result['seed'], 40)}")
    _check_recalls(result)
    if not isinstance(result["ranks"], dict):
        raise ValueError("ranks are no names and texts")
    result["ranks"] = {name: unpack(text, queries) for name, text in result["ranks"].items() if name != "packed"}
    for name, rows in result["ranks"].items():
        _check_name("a name of ranks", name)
        if rows.min() < 0 or rows.max() >= references:
            raise ValueError(f"ranks {name} beyond the references")
    for name, value in result["cost"].items():
        if value is not None:
            _check_number(f"cost {name}", value, MOST_COST)
    return result


def _check_recalls(result):
    names = [name for name in result if is_recall(name)]
    for name in names:
        _check_name("a recall", name)
        _check_shares(name, [result[name][k] for k in RECALLS])
    if not isinstance(result["recall_curve"], list):
        raise ValueError("recall_curve is no list")
    _check_shares("recall_curve", result["recall_curve"])
    for intervals in result["intervals"].values():
        for k in RECALLS:
            low, high = intervals[k]
            _check_shares("an interval", (low, high))
    _check_number("tied_queries", result["tied_queries"], result["queries"])
    _check_number("heading_right", result.get("heading_right", 0), 1)


def is_recall(name):
    """Whether an entry of a result holds the four recalls that papers report."""
    return name == "pessimistic_recall" or name.startswith("recall") and name != "recall_curve"


def _check_name(what, text):
    if not isinstance(text, str) or not NAME.fullmatch(text):
        raise ValueError(f"{what} is {shortened(text, 40)!r}")


def _check_shares(what, values):
    for value in values:
        _check_number(what, value, 1)


def _check_number(what, value, most):
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:  # NaN is neither
        raise ValueError(f"{what} is {shortened(value, 40)}")


def find_results(folders):
    """All files below folders that end in .json, but the notes of this project's other folders; sorted paths.

    Raises:
        UserError: a folder does not exist.
    """
    found = []
    for folder in folders:
        if not os.path.isdir(folder):
            raise UserError(f"{folder}: no such folder; name the folder of the results with --result_dir")
        for place, names, files in os.walk(folder):
            names[:] = sorted(name for name in names if not name.endswith(".descriptors"))
            found += [
                os.path.join(place, name) for name in sorted(files) if name.endswith(".json") and not name.startswith(".")
            ]
    return found
