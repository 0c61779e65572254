"""Answers as a table, JSON, GeoJSON and CSV."""

import csv
import io
import json
import math
import os

from safa.runtime.errors import shortened

DEGREE_DIGITS = 8  # of longitudes and latitudes: a millimetre
COLUMNS = (
    "panorama",
    "rank",
    "known",
    "latitude",
    "longitude",
    "similarity",
    "heading",
    "tile",
    "tiles",
    "probability",
    "margin",
    "confidence",
    "metres_off",
)


def answer_table(answers):
    """Lines of a table for the terminal: the best place of each panorama, and the other ones below it."""
    lines = [
        f"{'panorama':<28} {'latitude':>12} {'longitude':>13} {'similarity':>10} {'heading':>7} {'tiles':>5} "
        f"{'margin':>7} {'confidence':>10}  off"
    ]
    for answer in answers:
        for rank, place in enumerate(answer.places):
            first = rank == 0
            sure = answer.confidence if first else place.probability
            margin = f"{answer.margin:.4f}" if first and math.isfinite(answer.margin) else ""
            cells = [
                f"{shortened(os.path.basename(answer.panorama.path), 28) if first else '':<28}",
                f"{place.latitude:>12.7f} {place.longitude:>13.7f}",
                f"{place.similarity:>10.4f} {place.heading:>7.1f} {place.tiles:>5} {margin:>7}",
                f"{'' if sure is None else f'{100 * sure:.0f} %':>10}",
                f" {answer.metres_off:.1f} m" if first and answer.metres_off is not None else "",
            ]
            lines.append(" ".join(cells).rstrip())
        if not answer.known:
            lines.append(f"{'':<28} unknown: the best place is less sure than the calibration asks for")
    return lines


def answer_rows(answers):
    """A dict of COLUMNS for each place of each answer; None where there is no value."""
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


def as_json(answers, note):
    """A JSON text: the index's network and, for each panorama, its places."""
    found = []
    for answer, rows in _by_answer(answers):
        own = {"panorama": answer.panorama.path, "known": answer.known, "heading_from": answer.panorama.heading_source}
        own |= {name: rows[0][name] for name in ("margin", "confidence", "metres_off")}
        left = {"panorama", "known", "margin", "confidence", "metres_off"}
        own["places"] = [{name: value for name, value in row.items() if name not in left} for row in rows]
        found.append(own)
    return json.dumps({"tiles": note.tiles, "weights": note.weights, "answers": found}, indent=2, allow_nan=False)


def as_geojson(answers):
    """A GeoJSON text (RFC 7946): a FeatureCollection with a point for each place."""
    features = []
    for row in answer_rows(answers):
        point = {"type": "Point", "coordinates": [row["longitude"], row["latitude"]]}
        properties = {name: value for name, value in row.items() if name not in ("longitude", "latitude")}
        features.append({"type": "Feature", "geometry": point, "properties": properties})
    return json.dumps({"type": "FeatureCollection", "features": features}, indent=1, allow_nan=False)


def as_csv(answers):
    """A CSV text with COLUMNS, a line for each place."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(answer_rows(answers))
    return text.getvalue()


def _by_answer(answers):
    for answer in answers:
        yield answer, list(answer_rows([answer]))
