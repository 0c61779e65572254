"""The result file of a test: what was tested, recalls with their intervals, and the ranks, for every later statistic."""

from runtime.errors import UserError, first_line, shortened
from runtime.files import read_json, write_whole

import base64
import json
import math
import os
import zlib

import numpy as np

PACKED = "base64 of zlib of little-endian int32"
MOST_QUERIES = 10**8
RECALLS = ("1", "5", "10", "1%")


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
        result = read_json(path)
        return _checked(result)
    except OSError as error:
        raise NoResult(error.strerror or str(error)) from None
    except UserError as error:
        raise NoResult(str(error).removeprefix(f"{path}: ")) from None
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
    for name in "dataset", "split", "network_type":
        if not isinstance(result[name], str) or not 0 < len(result[name]) <= 100 or not result[name].isprintable():
            raise ValueError(f"{name} is {str(result[name])[:40]!r}")
    if result["polar"] not in (0, 1):
        raise ValueError(f"polar is {str(result['polar'])[:40]!r}")
    queries, references = result["queries"], result["references"]
    for count in queries, references:
        if type(count) is not int or not 0 < count <= MOST_QUERIES:
            raise ValueError(f"{str(count)[:40]} queries or references")
    for name in [name for name in result if name.startswith("recall") and name != "recall_curve"]:
        _check_shares([result[name][k] for k in RECALLS])
    _check_shares(result["recall_curve"])
    for intervals in result.setdefault("intervals", {}).values():
        for k in RECALLS:
            _check_shares(intervals[k], 2)
    ranks = result.get("ranks", {})
    result["ranks"] = {name: unpack(text, queries) for name, text in ranks.items() if name != "packed"}
    for name, rows in result["ranks"].items():
        if rows.min() < 0 or rows.max() >= references:
            raise ValueError(f"ranks {shortened(name, 40)} beyond the references")
    result.setdefault("seed", 0)
    result.setdefault("direction", "ground_to_aerial")
    result.setdefault("view", "")
    for name in "run", "trained_on", "query_ids":
        if not isinstance(result.setdefault(name, None), str | None):
            raise ValueError(f"{name} is {str(result[name])[:40]!r}")
    for name in "direction", "view":
        if not isinstance(result[name], str):
            raise ValueError(f"{name} is {str(result[name])[:40]!r}")
    if type(result["seed"]) is not int:
        raise ValueError(f"seed is {str(result['seed'])[:40]!r}")
    cost = result.setdefault("cost", {})
    if any(not isinstance(value, int | float | None) or isinstance(value, bool) for value in cost.values()):
        raise ValueError("cost is no numbers")
    if not isinstance(result.get("heading_right", 0.0), float | int):
        raise ValueError("heading_right is no number")
    return result


def _check_shares(values, count=None):
    if count is not None and len(values) != count:
        raise ValueError(f"{len(values)} values instead of {count}")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float) or not (math.isfinite(value) and 0 <= value <= 1):
            raise ValueError(f"{str(value)[:40]} is no share")


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
