"""One page that shows where panoramas were taken: panoramas, candidates, and a map of the tiles."""

import math

import numpy as np

from safa.datasets.image_files import ImageError, read_image
from safa.localization.coordinates import LocalFrame
from safa.localization.tile_map import BEST, OTHER, TRUTH, Mark, TileMap
from safa.report.canvas import GREEN, GREY, Canvas, fitted
from safa.report.page import Section, Table, photo, write_page

MOST_PANORAMAS = 20  # that have a part of their own; the table names all
MOST_ROWS = 500  # of the table
WIDTH, GAP, LINE = 900, 12, 22  # pixels of a panel
TALLEST, LARGEST = 300, 220  # pixels: height of a panorama, side of a tile
NOBODY = (200, 200, 200)  # grey of a tile without a thumbnail


def write_answer_page(path, index, answers, config):
    """Write a self-contained page of answers.

    Args:
        path: of the .html file.
        index: index.Index.
        answers: of `Index.query`.
        config: places.QueryConfig.

    Raises:
        UserError: Jinja2 is missing, or the page is too large.
        OSError: it cannot be written.
    """
    drawn, frame = TileMap(index), LocalFrame.around(index.positions)
    sections = [_all(answers, index, drawn, frame, config)]
    sections += [_one(number, answer, index, drawn, frame) for number, answer in enumerate(answers[:MOST_PANORAMAS], start=1)]
    known = sum(answer.known for answer in answers)
    subtitle = f"{len(answers):,} panoramas, {known:,} of them placed, among {index.note.tiles:,} tiles; {config.view_name}"
    write_page(path, "Where panoramas were taken", subtitle, sections)


def _all(answers, index, drawn, frame, config):
    """The section of all panoramas: a table, and a map with their best places."""
    columns = ["panorama", "latitude", "longitude", "heading", "similarity", "margin", "confidence", "off"]
    rows = [[f"{number}. {_name(answer)}", *_cells(answer)] for number, answer in enumerate(answers[:MOST_ROWS], start=1)]
    metres = [index.metres[answer.places[0].row] for answer in answers]
    marks = [
        Mark(tuple(place), str(number), BEST if answer.known else OTHER)
        for number, (answer, place) in enumerate(zip(answers, metres, strict=True), start=1)
    ]
    picture = drawn.draw(marks[:MOST_ROWS], metres if config.sequence is not None else None)
    caption = "Best places by number of the panorama. Green: placed. Red: unknown."
    note = "" if len(answers) <= MOST_ROWS else f"The first {MOST_ROWS:,} of {len(answers):,}."
    pictures = [photo(picture, "Map of the tiles with the best place of each panorama", caption, has_text=True)]
    return Section("places", "Places", note, table=Table(columns, rows), pictures=pictures)


def _one(number, answer, index, drawn, frame):
    """The section of a panorama: itself, its candidates, and where they are."""
    marks = [
        Mark(tuple(index.metres[place.row]), str(rank), BEST if rank == 1 else OTHER)
        for rank, place in enumerate(answer.places, start=1)
    ]
    caption = "Green: the best place. Red: the others."
    if answer.panorama.position is not None:
        marks.append(Mark(tuple(frame.metres([answer.panorama.position])[0]), "T", TRUTH))
        caption += " Blue T: where it was taken."
    columns = ["place", "latitude", "longitude", "heading", "similarity", "tiles that agree", "tile"]
    rows = [
        [
            str(rank),
            f"{place.latitude:.7f}",
            f"{place.longitude:.7f}",
            f"{place.heading:.0f}°",
            f"{place.similarity:.4f}",
            str(place.tiles),
            place.tile,
        ]
        for rank, place in enumerate(answer.places, start=1)
    ]
    if answer.places[0].probability is not None:
        columns.append("probability")
        for row, place in zip(rows, answer.places, strict=True):
            row.append(f"{100 * place.probability:.0f} %")
    pictures = [
        photo(answer_panel(answer, index), f"Panorama {_name(answer)} and the tiles of its best places", has_text=True),
        photo(drawn.draw(marks), f"Map with the best places of {_name(answer)}", caption, has_text=True),
    ]
    known = "" if answer.known else "Unknown: less sure than the calibration asks for. "
    return Section(
        f"panorama-{number}", f"{number}. {_name(answer)}", f"{known}{_sure(answer)}", Table(columns, rows), (), pictures
    )


def answer_panel(answer, index):
    """A panorama above the tiles of its places: (H, W, 3) uint8 BGR."""
    try:
        panorama = fitted(read_image(answer.panorama.path), width=WIDTH)
    except ImageError:  # gone since it was read
        panorama = np.full((WIDTH // 6, WIDTH, 3), 200, np.uint8)
    if len(panorama) > TALLEST:
        panorama = fitted(panorama, height=TALLEST)
    count = len(answer.places)
    side = min(LARGEST, (WIDTH - GAP * (count - 1)) // count)
    canvas = Canvas(WIDTH, len(panorama) + GAP + side + 2 * LINE + GAP)
    canvas.put(panorama, (WIDTH - panorama.shape[1]) // 2, 0)
    for rank, place in enumerate(answer.places):
        thumbnail = index.thumbnail(place.row)
        if thumbnail is None:
            thumbnail = np.full((side, side, 3), NOBODY, np.uint8)
        left, top = rank * (side + GAP), len(panorama) + GAP
        inner = side - 8
        frame = (GREEN if rank == 0 else GREY, 4)
        canvas.put(fitted(thumbnail, width=inner), left + 4, top + 4, *frame)
        canvas.write(f"{rank + 1}: {place.similarity:.3f}, {place.heading:.0f}°", left, top + side + 2, width=side)
        canvas.write(place.tile, left, top + side + LINE, GREY, 13, side)
    return canvas.pixels


def _cells(answer):
    place = answer.places[0]
    return [
        f"{place.latitude:.7f}" if answer.known else "unknown",
        f"{place.longitude:.7f}" if answer.known else "",
        f"{place.heading:.0f}°",
        f"{place.similarity:.4f}",
        f"{answer.margin:.4f}" if math.isfinite(answer.margin) else "",
        "" if answer.confidence is None else f"{100 * answer.confidence:.0f} %",
        "" if answer.metres_off is None else f"{answer.metres_off:.1f} m",
    ]


def _sure(answer):
    parts = [] if answer.confidence is None else [f"confidence {100 * answer.confidence:.0f} %"]
    if math.isfinite(answer.margin):
        parts.append(f"margin {answer.margin:.4f}")
    if answer.metres_off is not None:
        parts.append(f"{answer.metres_off:.1f} m off")
    parts.append(f"heading: {answer.panorama.heading_source}")
    return "; ".join(parts)


def _name(answer):
    return answer.panorama.path.replace("\\", "/").rpartition("/")[2]
