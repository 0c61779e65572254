"""Pages of answers: where panoramas were taken; and how far that is from known locations, and whether it is as sure as said."""

import numpy as np

from safa.datasets.image_files import ImageError
from safa.localization.answers import HEADERS, filled_columns, shown_place
from safa.localization.index import Index
from safa.localization.panorama import read_upright
from safa.localization.places import Answer, QueryConfig
from safa.localization.tile_images import THUMBNAIL_SIDE
from safa.localization.tile_map import BEST, OTHER, Mark, TileMap
from safa.report.drawing import TRUTH, Shown, image_rows, new_figure
from safa.report.page import Picture, Section, write_page
from safa.runtime.errors import shortened

MOST_PANORAMAS = 20  # that have a section of their own; the table names all
MOST_TILES = 8  # of places beside each other; the table names all
MOST_ROWS = 500  # of the table
NOTHING = 200  # grey level of a picture that is missing
RADII = (1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0)  # metres
BINS = 5  # of confidences, with as many answers each: few enough that a bin of a hundred answers says something
MOST_MARKS = 500  # of the map: the greatest errors
LEAST_OFF = 0.1  # metres, the left end of the curves
CHART = (760, 420)  # pixels


def write_answer_page(path: str, title: str, index: Index, answers: list[Answer], config: QueryConfig):
    """Write a self-contained page of answers.

    Raises:
        UserError: the page is too large.
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


def write_quality_page(path, title, index, answers, config):
    """Write a page about those answers whose panorama's location is known; errors as of `write_answer_page`."""
    located = [answer for answer in answers if answer.metres_off is not None]
    off = np.array([answer.metres_off for answer in located])
    sections = [_errors(off), *_sureness(located, off, config), _where(located, off, index, config)] if located else []
    subtitle = f"{len(off):,} panoramas of known location among {len(index):,} tiles; {config.view_name()}"
    write_page(path, title, subtitle, sections)


def _errors(off):
    figure = new_figure(*CHART, layout="constrained")
    axes, ordered = figure.subplots(), np.sort(np.maximum(off, LEAST_OFF))
    edges = np.geomspace(LEAST_OFF, max(ordered[-1], 1.0) * 1.01, 25)
    axes.hist(ordered, edges, weights=np.full(len(off), 100 / len(off)), color=BEST, alpha=0.4, label="of this error")
    axes.step(ordered, 100 * np.arange(1, len(off) + 1) / len(off), where="post", color=TRUTH, label="within this radius")
    axes.set(xscale="log", xlabel="metres from the known location", ylabel="% of the panoramas", ylim=(0, 101))
    axes.legend()
    rows = [[f"within {radius:g} m", f"{100 * np.mean(off <= radius):.1f} %"] for radius in RADII]
    rows += [[f"{share} % are closer than", f"{np.percentile(off, share):.1f} m"] for share in (50, 68, 95)]
    picture = Picture(figure, "Errors and recall over radius", "Errors, and recall over radius.", "chart")
    return Section("errors", "Errors", columns=("distance", "panoramas"), rows=rows, pictures=[picture])


def _sureness(answers, off, config):
    """A section for confidences and one for radii, where answers have them."""
    sure = np.array([np.nan if answer.confidence is None else answer.confidence for answer in answers])
    right = off <= config.radius
    if np.isfinite(sure).all():
        rows, points = [], []
        for own in np.array_split(np.argsort(sure), min(BINS, len(sure))):
            said, found = 100 * sure[own].mean(), 100 * right[own].mean()
            points.append((said, found))
            between = f"{100 * sure[own].min():.0f} to {100 * sure[own].max():.0f} %"
            rows.append([between, str(len(own)), f"{said:.1f} %", f"{found:.1f} %"])
        figure = new_figure(CHART[1], CHART[1], layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 100], [0, 100], color=OTHER, linestyle="--", label="as sure as right")
        axes.plot(*np.transpose(points), "o-", color=TRUTH)
        axes.set(xlabel="confidence, %", ylabel=f"within {config.radius:g} m, %", xlim=(-2, 102), ylim=(-2, 102))
        axes.legend()
        picture = Picture(figure, "Reliability diagram", "Right answers over confidence.", "chart")
        columns = ("confidence", "panoramas", "mean", "right")
        yield Section("reliability", "Reliability", "", columns, rows, pictures=[picture])
    estimates = [answer.estimate for answer in answers]
    if all(each is not None and each.covariance is not None for each in estimates):
        rows = []
        for share in (68, 95):
            radii = [getattr(each, f"radius_{share}") for each in estimates]
            radii = np.array([np.inf if radius is None else radius for radius in radii])
            rows.append([f"{share} % radius", f"{np.median(radii):.1f} m", f"{100 * np.mean(off <= radii):.1f} %"])
        yield Section("radii", "Radii of the estimates", "", ("radius", "median", "hold the known location"), rows)


def _where(answers, off, index, config):
    truths = index.frame.metres([answer.panorama.location for answer in answers])
    marks = [
        Mark(truths[number], f"{off[number]:.0f}", BEST if off[number] <= config.radius else OTHER)
        for number in np.argsort(-off)[:MOST_MARKS]
    ]
    caption = f"Known locations with their errors in metres. Red: more than {config.radius:g} m."
    picture = Picture(TileMap(index).draw(marks), "Map of the errors", caption)
    return Section("map", "Where", pictures=[picture])
