"""Answers as a table, JSON, GeoJSON and CSV."""

import csv
import io
import json
import math
import os

from tabulate import tabulate

from safa.runtime.errors import shortened

HEADERS = ("panorama", "latitude", "longitude", "similarity", "heading", "tiles", "margin", "confidence", "metres off")
DEGREE_DIGITS = 8  # of longitudes and latitudes: a millimetre
OF_ANSWER = ("panorama", "known", "margin", "confidence", "metres_off")
OF_PLACE = ("rank", "latitude", "longitude", "similarity", "heading", "tile", "tiles", "probability")


def answer_table(answers):
    """Lines of a table for the terminal: the best place of each panorama, and the other ones below it."""
    rows = [shown_place(answer, place) for answer in answers for place in answer.places]
    for row in rows:
        row[0] = shortened(row[0], 28)
    sides = ["left", *["right"] * 6, "left", "right"]
    return tabulate(rows, HEADERS, "plain", disable_numparse=True, colalign=sides).splitlines()


def shown_place(answer, place):
    """The texts of a place of an answer under HEADERS; what is said of the whole answer stands beside the best place."""
    is_best = place is answer.places[0]
    sure = answer.confidence if is_best else place.probability
    sure = "" if sure is None else f"{100 * sure:.0f} %"
    return [
        os.path.basename(answer.panorama.path) if is_best else "",
        f"{place.latitude:.7f}",
        f"{place.longitude:.7f}",
        f"{place.similarity:.4f}",
        f"{place.heading:.1f}",
        str(place.tiles),
        f"{answer.margin:.4f}" if is_best and math.isfinite(answer.margin) else "",
        sure if answer.known or not is_best else f"unknown: {sure}",
        f"{answer.metres_off:.1f}" if is_best and answer.metres_off is not None else "",
    ]


def answer_rows(answers):
    """A dict of the columns of OF_ANSWER and OF_PLACE for each place of each answer; None for an unknown value."""
    for answer in answers:
        for rank, place in enumerate(answer.places, start=1):
            yield {
                "panorama": answer.panorama.path,
                "rank": rank,
                "known": answer.known,
                "latitude": round(place.latitude, DEGREE_DIGITS),
                "longitude": round(place.longitude, DEGREE_DIGITS),
                "similarity": round(place.similarity, 6),
                "heading": round(place.heading, 2),
                "tile": place.tile,
                "tiles": place.tiles,
                "probability": None if place.probability is None else round(place.probability, 6),
                "margin": round(answer.margin, 6) if rank == 1 and math.isfinite(answer.margin) else None,
                "confidence": None if rank > 1 or answer.confidence is None else round(answer.confidence, 6),
                "metres_off": None if rank > 1 or answer.metres_off is None else round(answer.metres_off, 3),
            }


def as_json(answers, manifest):
    """A JSON text: the index's network and, for each panorama, its places."""
    found = []
    for answer in answers:
        rows = list(answer_rows([answer]))
        own = {name: rows[0][name] for name in OF_ANSWER} | {"heading_from": answer.panorama.heading_source}
        found.append(own | {"places": [{name: row[name] for name in OF_PLACE} for row in rows]})
    content = {"tiles": manifest.tiles, "weights": manifest.recipe.weights, "answers": found}
    return json.dumps(content, indent=2, allow_nan=False)


def as_geojson(answers):
    """A GeoJSON text (RFC 7946): a FeatureCollection with a point for each place."""
    features = []
    for row in answer_rows(answers):
        point = {"type": "Point", "coordinates": [row.pop("longitude"), row.pop("latitude")]}
        features.append({"type": "Feature", "geometry": point, "properties": row})
    return json.dumps({"type": "FeatureCollection", "features": features}, indent=1, allow_nan=False)


def as_csv(answers):
    """A CSV text with a line for each place."""
    text, rows = io.StringIO(), list(answer_rows(answers))
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
