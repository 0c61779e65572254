"""Answers as a table, JSON, GeoJSON and CSV."""

import csv
import io
import json
import math
import os

from tabulate import tabulate

from safa.runtime.errors import shortened

HEADERS = (
    "panorama",
    "latitude",
    "longitude",
    "similarity",
    "heading",
    "tiles",
    "margin",
    "confidence",
    "68 % m",
    "metres off",
)
COLLECTION = "places of panoramas"  # name of the GeoJSON that a query writes
DEGREE_DIGITS = 8  # of longitudes and latitudes: a millimetre
COVARIANCE = ("east_east", "east_north", "north_north")  # square metres
OF_ESTIMATE = ("estimated_latitude", "estimated_longitude", "radius_68", "radius_95", *COVARIANCE)
OF_ANSWER = ("panorama", "known", "margin", "confidence", "metres_off", *OF_ESTIMATE, "problem")
OF_PLACE = ("rank", "latitude", "longitude", "similarity", "heading", "tile", "tiles", "probability")
COLUMNS = ("panorama", "rank", "known", *OF_PLACE[1:], *OF_ANSWER[2:])


def answer_table(answers):
    """Lines of a table for the terminal: the best place of each panorama, and the other ones below it."""
    rows = [shown_place(answer, place) for answer in answers for place in answer.places]
    for row in rows:
        row[0] = shortened(row[0], 28)
    sides = ["left", *["right"] * 6, "left", "right", "right"]
    return tabulate(rows, HEADERS, "plain", disable_numparse=True, colalign=sides).splitlines()


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
    """A dict of COLUMNS for each place of an answer, or one that says why it has none; None for an unknown value.

    What is said of the whole answer stands beside the best place.
    """
    of_answer = {
        "known": answer.known,
        "margin": None if answer.margin is None or not math.isfinite(answer.margin) else round(answer.margin, 6),
        "confidence": None if answer.confidence is None else round(answer.confidence, 6),
        "metres_off": None if answer.metres_off is None else round(answer.metres_off, 3),
        "problem": answer.problem,
    } | _estimate_columns(answer.estimate)
    rows = []
    for rank, place in enumerate(answer.places, start=1):
        of_place = {
            "rank": rank,
            "latitude": round(place.latitude, DEGREE_DIGITS),
            "longitude": round(place.longitude, DEGREE_DIGITS),
            "similarity": round(place.similarity, 6),
            "heading": round(place.heading, 2),
            "tile": place.tile,
            "tiles": place.tiles,
            "probability": None if place.probability is None else round(place.probability, 6),
        }
        rows.append(of_place | (of_answer if rank == 1 else {"known": answer.known}))
    return [dict.fromkeys(COLUMNS) | {"panorama": answer.panorama.path} | row for row in rows or [of_answer]]


def _estimate_columns(estimate):
    if estimate is None:
        return {}
    radii = {name: getattr(estimate, name) for name in ("radius_68", "radius_95")}
    metres = radii | dict(zip(COVARIANCE, estimate.covariance or (None,) * 3, strict=True))
    return {
        "estimated_latitude": round(estimate.latitude, DEGREE_DIGITS),
        "estimated_longitude": round(estimate.longitude, DEGREE_DIGITS),
    } | {name: value if value is None else round(value, 3) for name, value in metres.items()}


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


def as_json_line(answer):
    """A line of JSON for an answer."""
    return json.dumps(as_object(answer), allow_nan=False) + "\n"


def as_geojson(answers):
    """A GeoJSON text (RFC 7946): a FeatureCollection with a point for each place; a panorama without one has no geometry."""
    features = []
    for row in (row for answer in answers for row in answer_rows(answer)):
        place = [row.pop("longitude"), row.pop("latitude")]
        point = None if place[0] is None else {"type": "Point", "coordinates": place}
        features.append({"type": "Feature", "geometry": point, "properties": row})
    content = {"type": "FeatureCollection", "name": COLLECTION, "features": features}
    return json.dumps(content, indent=1, allow_nan=False)


def as_csv(answers, with_header=True):
    """A CSV text with a line for each place."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    if with_header:
        writer.writeheader()
    for answer in answers:
        writer.writerows(answer_rows(answer))
    return text.getvalue()
