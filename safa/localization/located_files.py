"""Lists of image files with locations and headings, as CSV."""

import csv
import dataclasses
import math
import os

import numpy as np

from safa.localization.coordinates import WGS84, problem_of, wgs84_of
from safa.runtime.errors import UserError, first_few, first_line, shortened
from safa.runtime.files import ordinary

DEGREES, PROJECTED = ("longitude", "latitude"), ("easting", "northing")
COLUMNS = "latitude and longitude, or easting, northing and epsg"
MOST_METRES = 1e8  # of a coordinate: ten times UTM's greatest northing


@dataclasses.dataclass(frozen=True)
class LocatedFiles:
    """Image files of a list, N rows.

    Attributes:
        paths: N files; those that the list names relative to its own folder are complete here.
        locations: (N, 2) float64 longitude and latitude (WGS 84), or None if the list lacks them.
        headings: (N,) float64 degrees clockwise from north, NaN where they are not known.
        metres: (N,) float64 ground size of each tile; None if the list lacks it.
        accuracies: (N,) float64 metres, standard deviation of each location, NaN where it is not known.
    """

    paths: list[str]
    locations: np.ndarray | None
    headings: np.ndarray | None
    metres: np.ndarray | None
    accuracies: np.ndarray


def read_located_files(path: str, needs_locations: bool) -> LocatedFiles:
    """The LocatedFiles of a CSV list with a header, which may have to have locations.

    Columns, in any order: path; latitude and longitude in degrees (WGS 84), or easting, northing and epsg; heading, degrees
    clockwise from north; tile_metres, the ground size of a tile; accuracy, metres of a photo's location. Other columns are
    skipped.

    Raises:
        UserError: it cannot be read, lacks a column, or a row lacks a number or a location on Earth.
    """
    rows = _rows(path)
    names = set(next(iter(rows.values())))
    if "path" not in names:
        raise UserError(f"{path}: its first line names no column 'path'; begin with a line like path,latitude,longitude")
    for line, row in rows.items():
        if not row["path"] or "\0" in row["path"]:
            raise UserError(f"{path}, line {line}: no path; name the image's file")
    kind = next((pair for pair in (DEGREES, PROJECTED) if names.issuperset(pair)), None)
    if kind is None and needs_locations:
        raise UserError(f"{path}: has no coordinates; add the columns {COLUMNS}")
    if kind is PROJECTED and "epsg" not in names:
        raise UserError(f"{path}: easting and northing without a column epsg, the number of their reference system; add it")
    paths = [os.path.join(os.path.dirname(path), row["path"]) for row in rows.values()]
    locations = None if kind is None else _locations(path, rows, kind)
    headings = _numbers(path, rows, "heading") if "heading" in names else np.full(len(rows), math.nan)
    accuracies = _numbers(path, rows, "accuracy") if "accuracy" in names else np.full(len(rows), math.nan)
    if (accuracies <= 0).any():
        raise UserError(f"{path}, line {list(rows)[(accuracies <= 0).argmax()]}: accuracy is not more than 0; correct it")
    metres = _numbers(path, rows, "tile_metres") if "tile_metres" in names else None
    if metres is not None and metres.min() <= 0:
        raise UserError(f"{path}, line {list(rows)[metres.argmin()]}: tile_metres is not more than 0; correct it")
    return LocatedFiles(paths, locations, headings, metres, accuracies)


def _rows(path):
    """{line: {column: text}} of a CSV file's rows."""
    try:
        with open(path, newline="", encoding="utf-8-sig", opener=ordinary) as file:
            reader = csv.reader(file, strict=True)
            header, rows = [name.strip().lower() for name in next(reader, [])], {}
            for cells in reader:
                rows[reader.line_num] = [cell.strip() for cell in cells]
    except OSError as error:
        raise UserError(f"{shortened(path)}: {error.strerror}; name a CSV list of images") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a CSV list in UTF-8 ({first_line(error)}); save it as one") from None
    rows = {line: cells for line, cells in rows.items() if any(cells)}
    for line, cells in rows.items():
        if len(cells) != len(header):
            raise UserError(f"{path}, line {line}: {len(cells)} values under {len(header)} columns; correct this line")
    if len(set(header)) < len(header):
        raise UserError(f"{path}: two columns have one name; rename one of them")
    if not rows:
        raise UserError(f"{path}: has no rows; add a line for each image")
    return {line: dict(zip(header, cells, strict=True)) for line, cells in rows.items()}


def _numbers(path, rows, name):
    """The numbers of a column, (N,) float64; NaN for empty cells of headings."""
    values = []
    for line, row in rows.items():
        text = row[name]
        try:
            value = float(text) if text or name not in ("heading", "accuracy") else math.nan
            if text and not math.isfinite(value):
                raise ValueError
        except ValueError:
            raise UserError(f"{path}, line {line}: {name} {shortened(text)!r} is not a number; correct it") from None
        values.append(value)
    return np.array(values)


def _locations(path, rows, kind):
    first, second = (_numbers(path, rows, name) for name in kind)
    locations = np.stack([first, second], axis=1)
    if kind is PROJECTED:
        texts = [row["epsg"].upper().removeprefix("EPSG:") for row in rows.values()]
        for line, text in zip(rows, texts, strict=True):
            if not (text.isascii() and text.isdecimal() and len(text) < 8):
                raise UserError(
                    f"{path}, line {line}: epsg {shortened(text)!r} is not a code like {WGS84} or 28355; correct it"
                )
        systems = np.array(texts, int)
        for epsg in np.unique(systems):
            chosen = systems == epsg
            locations[chosen] = wgs84_of(first[chosen], second[chosen], int(epsg))
        locations[np.maximum(np.abs(first), np.abs(second)) > MOST_METRES] = np.nan
    problems = [problem_of(*location) for location in locations.tolist()]
    wrong = [f"line {line} {problem}" for line, problem in zip(rows, problems, strict=True) if problem]
    if wrong:
        raise UserError(f"{path}: {len(wrong):,} rows without a location on Earth: {first_few(wrong)}; correct them")
    return locations
