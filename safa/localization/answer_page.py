"""One page that shows where panoramas were taken: panoramas, candidates, and a map of the tiles."""

import numpy as np

from safa.datasets.image_files import ImageError
from safa.localization.answers import HEADERS, filled_columns, shown_place
from safa.localization.index import Index
from safa.localization.panorama import read_upright
from safa.localization.places import Answer, QueryConfig
from safa.localization.tile_images import THUMBNAIL_SIDE
from safa.localization.tile_map import BEST, OTHER, Mark, TileMap
from safa.report.drawing import TRUTH, Shown, image_rows
from safa.report.page import Picture, Section, write_page
from safa.runtime.errors import shortened

MOST_PANORAMAS = 20  # that have a section of their own; the table names all
MOST_TILES = 8  # of places beside each other; the table names all
MOST_ROWS = 500  # of the table
NOTHING = 200  # grey level of a picture that is missing


def write_answer_page(path: str, title: str, index: Index, answers: list[Answer], config: QueryConfig):
    """Write a self-contained page of answers.

    Raises:
        UserError: Jinja2 is missing, or the page is too large.
        OSError: it cannot be written.
    """
    drawn = TileMap(index)
    sections = [_all(answers, index, drawn, config)]
    sections += [_one(number, answer, index, drawn) for number, answer in enumerate(answers[:MOST_PANORAMAS], start=1)]
    known = [answer.known for answer in answers if answer.known is not None]
    sure = f"{sum(known):,} of {len(known):,} sure enough" if known else "not calibrated"
    subtitle = f"{len(answers):,} panoramas, {sure}, among {len(index):,} tiles; {config.view_name()}"
    write_page(path, title, subtitle, sections)


def _all(answers, index, drawn, config):
    """The section of all panoramas: a table, and a map with their best places."""
    rows, marks, best = [], [], [answer.places[0] for answer in answers]
    for number, (answer, place) in enumerate(zip(answers[:MOST_ROWS], best, strict=False), start=1):
        name, *texts = shown_place(answer, place)
        rows.append([f"{number}. {name}", *texts])
        look = (OTHER, "s") if answer.known is False else (BEST, "o")
        marks.append(Mark(index.metres[place.row], str(number), *look))
    path = None if config.sequence is None else [index.metres[place.row] for place in best]
    caption = "Best places by number of the panorama. Green discs: best places. Red squares: unknown."
    picture = Picture(drawn.draw(marks, path), "Map of the tiles with the best place of each panorama", caption)
    note = "" if len(answers) <= MOST_ROWS else f"The first {MOST_ROWS:,} of {len(answers):,}."
    columns, *rows = filled_columns(HEADERS, rows)
    return Section("places", "Places", note, columns, rows, pictures=[picture])


def _one(number, answer, index, drawn):
    """The section of a panorama: itself, its candidates, and where they are."""
    name, rows, marks = shown_place(answer, answer.places[0])[0], [], []
    for rank, place in enumerate(answer.places, start=1):
        rows.append([str(rank), *shown_place(answer, place)[1:], place.tile])
        marks.append(Mark(index.metres[place.row], str(rank), BEST if rank == 1 else OTHER))
    caption = "Green: the best place. Red: the others."
    if answer.panorama.location is not None:
        marks.append(Mark(index.frame.metres([answer.panorama.location])[0], "T", TRUTH))
        caption += " Blue T: where it was taken."
    pictures = [
        Picture(answer_panel(answer, index), f"Panorama {name} and the tiles of its best places"),
        Picture(drawn.draw(marks), f"Map with the best places of {name}", caption),
    ]
    unknown = {None: "Not calibrated; ", False: "Unknown: less sure than the calibration asks for; ", True: ""}[answer.known]
    note = f"{unknown}heading: {answer.panorama.heading_source}"
    columns, *rows = filled_columns(["place", *HEADERS[1:], "tile"], rows)
    return Section(f"panorama-{number}", f"{number}. {name}", note, columns, rows, pictures=pictures)


def answer_panel(answer, index):
    """A panorama above the tiles of its places, the best one framed: matplotlib Figure."""
    try:
        panorama = read_upright(answer.panorama)
    except ImageError:  # gone since it was read
        panorama = np.full((100, 600, 3), NOTHING, np.uint8)
    tiles = []
    for rank, place in enumerate(answer.places[:MOST_TILES], start=1):
        thumbnail = index.thumbnail(place.row)
        if thumbnail is None:
            thumbnail = np.full((THUMBNAIL_SIDE, THUMBNAIL_SIDE, 3), NOTHING, np.uint8)
        sure = f"{place.similarity:.3f}" if place.probability is None else f"{100 * place.probability:.0f} %"  # their order
        caption = f"{rank}: {sure}, {place.heading:.0f}°\n{shortened(place.tile)}"
        tiles.append(Shown(thumbnail, caption, BEST if rank == 1 else None))
    return image_rows([[Shown(panorama)], tiles])
