"""A page of how far answers are from known locations, and whether they are as sure as they say."""

import numpy as np

from safa.localization.tile_map import BEST, OTHER, Mark, TileMap
from safa.report.drawing import TRUTH, new_figure
from safa.report.page import Picture, Section, write_page

RADII = (1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0)  # metres
BINS = 5  # of confidences, with as many answers each: few enough that a bin of a hundred answers says something
MOST_MARKS = 500  # of the map: the greatest errors
LEAST_OFF = 0.1  # metres, the left end of the curves
CHART = (760, 420)  # pixels


def write_quality_page(path, title, index, answers, config):
    """Write a self-contained page about those answers whose panorama's location is known.

    Raises:
        UserError: Jinja2 is missing, or the page is too large.
        OSError: it cannot be written.
    """
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
            rows.append(
                [
                    f"{100 * sure[own].min():.0f} to {100 * sure[own].max():.0f} %",
                    str(len(own)),
                    f"{said:.1f} %",
                    f"{found:.1f} %",
                ]
            )
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
