"""Lists of image files with positions and headings, as CSV."""

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
        positions: (N, 2) float64 longitude and latitude (WGS 84), or None where the list has none.
        headings: (N,) float64 degrees clockwise from north, NaN where a row has none; None where the list has none.
        metres: (N,) float64 ground size of each tile; None where the list has none.
    """

    paths: list
    positions: np.ndarray | None
    headings: np.ndarray | None
    metres: np.ndarray | None


def read_located_files(path, needs_positions):
    """Read a CSV list with a header.

    Columns, in any order: path; latitude and longitude in degrees (WGS 84), or easting, northing and epsg; heading, degrees
    clockwise from north; tile_metres, the ground size of a tile. Other columns are left aside.

    Args:
        path: of the list.
        needs_positions: whether it must have positions.

    Returns:
        LocatedFiles.

    Raises:
        UserError: it cannot be read, lacks a column, or a row has no number or no position where it must have one.
    """
    rows, numbers = _rows(path)
    names = set(rows[0])
    if "path" not in names:
        raise UserError(f"{path}: its first line names no column 'path'; begin with a line like path,latitude,longitude")
    kind = next((pair for pair in (DEGREES, PROJECTED) if names.issuperset(pair)), None)
    if kind is None and needs_positions:
        raise UserError(f"{path}: has no coordinates; add the columns {COLUMNS}")
    if kind is PROJECTED and "epsg" not in names:
        raise UserError(f"{path}: easting and northing without a column epsg, the number of their reference system; add it")
    paths = [_resolved(path, row["path"], number) for row, number in zip(rows, numbers, strict=True)]
    positions = None if kind is None else _positions(path, rows, numbers, kind)
    headings = _column(path, rows, numbers, "heading", blank=math.nan) if "heading" in names else None
    metres = _column(path, rows, numbers, "tile_metres") if "tile_metres" in names else None
    if metres is not None and metres.min() <= 0:
        raise UserError(f"{path}, line {numbers[metres.argmin()]}: tile_metres is not more than 0; correct it")
    return LocatedFiles(paths, positions, headings, metres)


def _rows(path):
    """The rows of a CSV file as dicts, and the line of each."""
    try:
        with open(path, newline="", encoding="utf-8-sig", opener=ordinary) as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip().lower() for name in next(reader, [])]
            rows, numbers = [], []
            for cells in reader:
                if not any(cell.strip() for cell in cells):
                    continue
                if len(cells) != len(header):
                    raise UserError(
                        f"{path}, line {reader.line_num}: {len(cells)} values under {len(header)} columns; correct this line"
                    )
                rows.append(dict(zip(header, map(str.strip, cells), strict=True)))
                numbers.append(reader.line_num)
    except OSError as error:
        raise UserError(f"{shortened(path)}: {error.strerror}; name a CSV list of images") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a CSV list in UTF-8 ({first_line(error)}); save it as one") from None
    if len(set(header)) < len(header):
        raise UserError(f"{path}: two columns have one name; rename one of them")
    if not rows:
        raise UserError(f"{path}: has no rows; add a line for each image")
    return rows, numbers


def _resolved(path, name, number):
    if not name or "\0" in name:
        raise UserError(f"{path}, line {number}: no path; name the image's file")
    return os.path.join(os.path.dirname(path), name)


def _column(path, rows, numbers, name, blank=None):
    """The numbers of a column, (N,) float64; `blank` stands for empty cells."""
    values = np.empty(len(rows))
    for place, (row, number) in enumerate(zip(rows, numbers, strict=True)):
        text = row[name]
        try:
            values[place] = float(text) if text or blank is None else blank
            if text and not math.isfinite(values[place]):
                raise ValueError
        except ValueError:
            raise UserError(f"{path}, line {number}: {name} {shortened(text)!r} is no number; correct it") from None
    return values


def _positions(path, rows, numbers, kind):
    first, second = (_column(path, rows, numbers, name) for name in kind)
    if kind is DEGREES:
        positions = np.stack([first, second], axis=1)
    else:
        positions = np.full((len(rows), 2), np.nan)
        systems = np.array([_epsg(path, row["epsg"], number) for row, number in zip(rows, numbers, strict=True)])
        for epsg in np.unique(systems):
            chosen = systems == epsg
            positions[chosen] = wgs84_of(first[chosen], second[chosen], int(epsg))
    wrong = []
    for place, (longitude, latitude) in enumerate(positions.tolist()):
        problem = problem_of(longitude, latitude)
        if kind is PROJECTED and max(abs(first[place]), abs(second[place])) > MOST_METRES:
            problem = "is no position"
        if problem:
            wrong.append(f"line {numbers[place]} {problem}")
    if wrong:
        raise UserError(f"{path}: {len(wrong):,} rows without a position on Earth: {first_few(wrong)}; correct them")
    return positions


def _epsg(path, text, number):
    text = text.upper().removeprefix("EPSG:")
    if not (text.isascii() and text.isdecimal() and len(text) < 8):
        raise UserError(f"{path}, line {number}: epsg {shortened(text)!r} is no EPSG number like {WGS84} or 28355; correct it")
    return int(text)
