"""Lists of image files with locations and headings, as CSV."""

import csv
import dataclasses
import math
import os
import re

import numpy as np

from safa.localization.coordinates import MOST_METRES, WGS84, missing_grid, problem_of, reaches, wgs84_of
from safa.runtime.errors import UserError, first_few, first_line, shortened
from safa.runtime.files import ordinary
from safa.settings import FULL_CIRCLE

DEGREES, PROJECTED = ("longitude", "latitude"), ("easting", "northing")
COLUMNS = "latitude and longitude, or easting, northing and epsg"
OTHER_NAMES = {  # of columns, as spreadsheets and cameras' tools have them
    "path": ("file", "filename", "file_name", "image", "image_path", "sourcefile"),
    "latitude": ("lat", "gpslatitude"),
    "longitude": ("lon", "lng", "long", "gpslongitude"),
    "easting": ("east", "utm_east", "utm_easting"),
    "northing": ("north", "utm_north", "utm_northing"),
    "heading": ("bearing", "azimuth", "compass_angle", "gpsimgdirection"),
}
NAME_OF = {other: name for name, others in OTHER_NAMES.items() for other in others}
DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
EPSG_CODE = re.compile(r"(?:EPSG:)?([0-9][0-9,]{0,7})(?:\.0)?", re.IGNORECASE)  # also as a spreadsheet writes it
MOST_NORTHING = 1e8  # or easting, in metres: ten times UTM's greatest
LENGTHS = 1e-3, MOST_METRES  # of tiles and errors


@dataclasses.dataclass(frozen=True)
class LocatedFiles:
    """Image files of a list, N rows; numbers are float64, NaN where they are not known."""

    paths: list[str]  # those that the list names relative to its own folder are complete here
    locations: np.ndarray  # (N, 2) longitude and latitude (WGS 84)
    headings: np.ndarray  # (N,) degrees clockwise from north, 0 to 360
    metres: np.ndarray | None  # (N,) ground size of each tile; None if the list lacks it
    accuracies: np.ndarray  # (N,) metres, standard deviation of each location
    notes: tuple[str, ...] = ()  # lines to be said of them


def read_located_files(path: str, needs_locations: bool) -> LocatedFiles:
    """The LocatedFiles of a CSV list with a header, which may have to have locations.

    Columns, in any order: path; latitude and longitude in degrees (WGS 84), or easting, northing and epsg; heading, degrees
    clockwise from north; tile_metres, the ground size of a tile; accuracy, metres of a photo's location. Others are skipped.
    Columns may have OTHER_NAMES, and be separated by semicolons or tabs, with commas in numbers. Paths may have backslashes.

    Raises:
        UserError: it cannot be read, lacks a column, or a row lacks a number or a location on Earth.
    """
    rows = _rows(path)
    names = next(iter(rows.values())).keys()
    if "path" not in names:
        problem = f"its first line names no column 'path' ({shortened(', '.join(names))})"
        raise UserError(f"{path}: {problem}; begin with a line like path,latitude,longitude")
    for line, row in rows.items():
        if not row["path"] or "\0" in row["path"]:
            raise UserError(f"{path}, line {line}: no path; name the image's file")
    kind = next((pair for pair in (DEGREES, PROJECTED) if names >= set(pair)), None)
    if kind is None and needs_locations:
        raise UserError(f"{path}: has no coordinates; add the columns {COLUMNS}")
    if kind is PROJECTED and "epsg" not in names:
        raise UserError(f"{path}: easting and northing without a column epsg, the number of their reference system; add it")
    codes = {EPSG_CODE.sub(r"\1", row.get("epsg", "")) for row in rows.values()}
    if kind is DEGREES and not names >= set(PROJECTED) and codes - {"", str(WGS84)}:
        remedy = "name longitude easting and latitude northing, or remove the column epsg"
        raise UserError(f"{path}: latitude and longitude are taken as EPSG:{WGS84}, and epsg says another one; {remedy}")
    nowhere = np.full((len(rows), 2), np.nan), ()
    locations, notes = nowhere if kind is None else _locations(path, rows, kind, needs_locations)
    paths = (os.path.join(os.path.dirname(path), row["path"]) for row in rows.values())
    return LocatedFiles(
        # Paths of Windows where this system has none of their name.
        [each if "\\" not in each or os.path.exists(each) else each.replace("\\", "/") for each in paths],
        locations,
        _numbers(path, rows, "heading", (-FULL_CIRCLE, FULL_CIRCLE)) % FULL_CIRCLE,
        _numbers(path, rows, "tile_metres", LENGTHS) if "tile_metres" in names else None,
        _numbers(path, rows, "accuracy", LENGTHS),
        notes,
    )


def _rows(path):
    """{line: {column: text}} of a CSV file's rows."""
    try:
        with open(path, newline="", encoding="utf-8-sig", opener=ordinary) as file:
            first = file.readline()
            delimiter = max(",;\t", key=first.count)
            file.seek(0)
            reader = csv.reader(file, strict=True, delimiter=delimiter)
            header, rows = [name.strip().lower() for name in next(reader, [])], {}
            for cells in reader:
                rows[reader.line_num] = [cell.strip() for cell in cells]
    except OSError as error:
        raise UserError(f"{shortened(path)}: {error.strerror}; name a CSV list of images") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a CSV list in UTF-8 ({first_line(error)}); save it as one") from None
    rows = {line: cells for line, cells in rows.items() if any(cells)}
    for line, cells in rows.items():
        if delimiter != ",":
            cells[:] = [cell.replace(",", ".") if DECIMAL_COMMA.fullmatch(cell) else cell for cell in cells]
        if len(cells) != len(header):
            quotes = " (quotes around a name keep its commas together)" if len(cells) > len(header) else ""
            raise UserError(f"{path}, line {line}: {len(cells)} values under {len(header)} columns; correct this line{quotes}")
    header = [name if NAME_OF.get(name, name) in header else NAME_OF.get(name, name) for name in header]
    named = [name for name in header if name]  # spreadsheets also write empty columns
    if len(set(named)) < len(named):
        raise UserError(f"{path}: two columns have one name; rename one of them")
    if not rows:
        raise UserError(f"{path}: has no rows; add a line for each image")
    return {line: dict(zip(header, cells, strict=True)) for line, cells in rows.items()}


def _numbers(path, rows, name, bounds=(-math.inf, math.inf)):
    """The numbers of a column, (N,) float64; NaN for empty cells, but of tile_metres, and for a column that is missing."""
    values = []
    for line, row in rows.items():
        text = row.get(name, "")
        try:
            value = float(text.replace("_", "x")) if text or name == "tile_metres" else math.nan
        except ValueError:
            value = math.inf
        if math.isinf(value) or (text and math.isnan(value)):
            raise UserError(f"{path}, line {line}: {name} {shortened(text)!r} is not a number; correct it")
        if value < bounds[0] or value > bounds[1]:
            between = "{:g} and {:g}".format(*bounds)
            raise UserError(f"{path}, line {line}: {name} {shortened(text)!r} is not between {between}; correct it")
        values.append(value)
    return np.array(values)


def _locations(path, rows, kind, needs_all):
    """(N, 2) longitude and latitude, NaN where both cells are blank and that is allowed; and notes."""
    first, second = (_numbers(path, rows, name) for name in kind)
    for (line, row), *place in zip(rows.items(), first.tolist(), second.tolist(), strict=True):
        for name, value in zip(kind, place, strict=True):
            if value > 0 and (side := row.get(f"gps{name}ref", ""))[:1].upper() in ("S", "W"):
                raise UserError(f"{path}, line {line}: {name} {value:g} with gps{name}ref {shortened(side)}; write {-value:g}")
    locations, notes = np.stack([first, second], axis=1), []
    blank = np.isnan(locations).all(axis=1) & (not needs_all)
    if kind is PROJECTED:
        systems = np.zeros(len(rows), int)
        for number, (line, row) in enumerate(rows.items()):
            if code := EPSG_CODE.fullmatch(row["epsg"]):
                systems[number] = int(code[1].replace(",", ""))
            elif row["epsg"] or not blank[number]:
                problem = f"epsg {shortened(row['epsg'])!r} is not a code like {WGS84} or 28355"
                raise UserError(f"{path}, line {line}: {problem}; correct it")
        for epsg in np.unique(systems[~blank]).tolist():
            chosen = (systems == epsg) & ~blank
            locations[chosen] = wgs84_of(first[chosen], second[chosen], epsg)
            notes += missing_grid(epsg)
            if not reaches(epsg, locations[chosen]).any():
                if reaches(epsg, wgs84_of(second[chosen], first[chosen], epsg)).all():
                    raise UserError(f"{path}: easting and northing look swapped, by EPSG:{epsg}'s area of use; exchange them")
                notes.append(f"warning: {shortened(path)}: no row lies in EPSG:{epsg}'s area of use")
        locations[np.maximum(np.abs(first), np.abs(second)) > MOST_NORTHING] = np.nan
    problems = [None if each else problem_of(*place) for each, place in zip(blank, locations.tolist(), strict=True)]
    wrong = [f"line {line} {problem}" for line, problem in zip(rows, problems, strict=True) if problem]
    if wrong:
        raise UserError(f"{path}: {len(wrong):,} rows without a location on Earth: {first_few(wrong)}; correct them")
    return locations, tuple(notes)
