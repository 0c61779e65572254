"""Answers as a table, JSON, GeoJSON and CSV."""

import csv
import io
import itertools
import json
import math
import os

from tabulate import tabulate

from safa.runtime.errors import shortened

HEADERS = "panorama", "latitude", "longitude", "similarity", "heading", "tiles", "margin", "confidence", "68 % m", "metres off"
COLLECTION = "places of panoramas"  # name of the GeoJSON that a query writes
COVARIANCE = ("east_east", "east_north", "north_north")  # square metres
OF_ESTIMATE = ("estimated_latitude", "estimated_longitude", "radius_68", "radius_95", *COVARIANCE)
OF_ANSWER = ("panorama", "known", "margin", "confidence", "metres_off", *OF_ESTIMATE, "problem")
OF_PLACE = ("rank", "latitude", "longitude", "similarity", "heading", "tile", "tiles", "probability")
COLUMNS = ("panorama", "rank", "known", *OF_PLACE[1:], *OF_ANSWER[2:])
DIGITS = {  # of columns after the point; 8 of degrees are a millimetre
    **dict.fromkeys(("latitude", "longitude", *OF_ESTIMATE[:2]), 8),
    **dict.fromkeys(("similarity", "probability", "margin", "confidence"), 6),
    **dict.fromkeys(("metres_off", *OF_ESTIMATE[2:]), 3),
    "heading": 2,
}


def answer_table(answers):
    """Lines of a table for the terminal: the best place of each panorama, and the other ones below it."""
    rows = [shown_place(answer, place) for answer in answers for place in answer.places]
    for row in rows:
        row[0] = shortened(row[0], 28)
    names, *rows = filled_columns(HEADERS, rows)
    sides = ["left" if name in ("panorama", "confidence") else "right" for name in names]
    return tabulate(rows, names, "plain", disable_numparse=True, colalign=sides).splitlines()


def filled_columns(names, rows):
    """The names of columns and the rows, without those columns that are empty in all rows: of confidences, for instance."""
    filled = [any(texts) for texts in zip(*rows, strict=True)]
    return [list(itertools.compress(line, filled)) for line in (names, *rows)]


def shown_place(answer, place):
    """The texts of a place of an answer under HEADERS; what is said of the whole answer stands beside the best place."""
    is_best = place is answer.places[0]
    sure = answer.confidence if is_best else place.probability
    radius = answer.estimate and answer.estimate.radius_68
    sure = "" if sure is None else f"{100 * sure:.0f} %"
    return [
        os.path.basename(answer.panorama.path) if is_best else "",
        f"{place.latitude:.7f}",
        f"{place.longitude:.7f}",
        f"{place.similarity:.4f}",
        f"{place.heading:.1f}",
        str(place.tiles),
        f"{answer.margin:.4f}" if is_best and math.isfinite(answer.margin) else "",
        f"unknown: {sure}" if is_best and answer.known is False else sure,
        f"{radius:.1f}" if is_best and radius is not None else "",
        f"{answer.metres_off:.1f}" if is_best and answer.metres_off is not None else "",
    ]


def answer_rows(answer):
    """A dict of COLUMNS for each place of an answer, or one that says why it has none; None for an unknown or infinite value.

    What is said of the whole answer stands beside the best place.
    """
    rows = [{"rank": rank} | vars(place) for rank, place in enumerate(answer.places, start=1)] or [{}]
    rows[0] |= {name: getattr(answer, name) for name in ("margin", "confidence", "metres_off", "problem")}
    if (estimate := answer.estimate) is not None:
        values = estimate.latitude, estimate.longitude, estimate.radius_68, estimate.radius_95, *(estimate.covariance or ())
        rows[0] |= dict(zip(OF_ESTIMATE, values, strict=False))
    whole = {"panorama": answer.panorama.path, "known": answer.known}
    return [{name: _rounded(name, (row | whole).get(name)) for name in COLUMNS} for row in rows]


def _rounded(name, value):
    if name not in DIGITS or value is None:
        return value
    return round(value, DIGITS[name]) if math.isfinite(value) else None


def as_object(answer):
    """What JSON says of an answer: a dict with its places."""
    rows = answer_rows(answer)
    own = {name: rows[0][name] for name in OF_ANSWER} | {"heading_from": answer.panorama.heading_source}
    places = [] if answer.problem is not None else rows
    return own | {"places": [{name: row[name] for name in OF_PLACE} for row in places]}


def as_json(answers, manifest):
    """A JSON text: the index's network and, for each panorama, its places."""
    content = {"tiles": manifest.tiles, "weights": manifest.recipe.weights, "answers": [as_object(each) for each in answers]}
    return json.dumps(content, indent=2, allow_nan=False)


def as_json_lines(answers):
    """A line of JSON for each answer."""
    return "".join(json.dumps(as_object(answer), allow_nan=False) + "\n" for answer in answers)


def as_geojson(answers):
    """A GeoJSON text (RFC 7946): a FeatureCollection with a point for each place; a panorama without one has no geometry."""
    features = []
    for row in (row for answer in answers for row in answer_rows(answer)):
        place = [row.pop("longitude"), row.pop("latitude")]
        point = None if place[0] is None else {"type": "Point", "coordinates": place}
        features.append({"type": "Feature", "geometry": point, "properties": row})
    content = {"type": "FeatureCollection", "name": COLLECTION, "features": features}
    return json.dumps(content, indent=1, allow_nan=False)


def as_csv(answers):
    """A CSV text with a line for each place."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for answer in answers:
        writer.writerows(answer_rows(answer))
    return text.getvalue()
