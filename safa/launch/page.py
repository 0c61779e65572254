"""The page of a test: what its sections are made of."""

import json
import os
import re

import numpy as np

from safa.report.attention_panels import attention_panel
from safa.report.charts import SIZE, place_map, recall_figure, similarity_histogram, training_curves
from safa.report.epoch_lines import read_lines
from safa.report.figures import WITH_ATTENTION
from safa.report.page import Picture, Section, write_page
from safa.report.result_lines import result_table
from safa.report.retrieval_panels import query_images, retrieval_panel
from safa.retrieval.evaluation import margins
from safa.retrieval.task import GROUND_TO_AERIAL
from safa.runtime.files import read_file, read_json
from safa.runtime.outputs import Output
from safa.training.run_folder import EPOCHS, MANIFEST, folder_of

PANELS, ATTENTION = 4, 1  # queries that are drawn where no flag says how many
MOST_PANELS, MOST_ATTENTION = 24, 6  # of a page that stays below 10 MB; the folder of figures has all
PAGE = re.compile(rb'<!DOCTYPE html>.*"#recall"', re.DOTALL)  # how it begins
UNREADABLE = "ranks", "recall_curve"  # thousands of numbers of a result file
WORST = 20  # queries that the table names
FRAMES = "✓ and green: hits; ✗ and red: others; blue: the truth. Captions: rank, similarity, metres off where they are known."
LAYERS = (
    "Parts: each position's part of the similarity with the best match; they add up to it. Weights: those of each embedding. "
    "Red is positive, blue negative."
)


def page_output(json_path, config):
    """The Output of a test's page beside its result file; `config`: as of `report_page`."""
    return Output("the page", json_path.removesuffix(".json") + ".html" if config.report else None, PAGE)


def report_page(config, json_path, row, tested, model, more=()):
    """Write the page of a test, as a FigureConfig says, beside its result file; returns its path.

    Args:
        row: report.rows.Row of this result alone.
        tested: report.figures.FigureSource; its images need not exist if the descriptors were computed elsewhere.
        model: spatial_net.Network with the tested weights; None of such descriptors.
        more: further Sections, after the curves.
    """
    (result,), network, task = row.results, row.results[0].network, tested.task
    folder = None if model is None else folder_of(result.checkpoint)
    table = result_table(row)
    rows, note = shown_queries(config, tested, config.figures or PANELS, MOST_PANELS)
    pictures = _panels(tested, rows)
    sections = [
        Section("recall", "Recall", "", [table.corner, *table.columns], table.texts, table.below),
        Section("curves", "Curves", pictures=list(_curves(row, folder, tested))),
        *more,
        *([Section("queries", "Queries", f"{note} {FRAMES * bool(rows)}", pictures=pictures)] if pictures or not rows else []),
        _worst(tested),
    ]
    if model and tested.direction == GROUND_TO_AERIAL and network.aggregation[0] in WITH_ATTENTION and tested.queries.ndim == 2:
        rows, note = shown_queries(config, tested, config.attention or ATTENTION, MOST_ATTENTION)
        alt = "Attention of query {} and its best match"
        pictures = [Picture(attention_panel(tested, row, model), alt.format(task.ids[row])) for row in rows]
        title = "What the descriptors rest on"
        sections.append(Section("attention", title, f"{note} {LAYERS * bool(rows)}", pictures=pictures))
    if task.query_utm is not None:
        picture = _chart(place_map(task.query_utm, tested.ranks), "Map of the test places, coloured by their ranks")
        sections.append(Section("places", "Places", pictures=[picture]))
    test = {name: value for name, value in read_json(json_path, dict, "test again").items() if name not in UNREADABLE}
    texts = [("test", json.dumps(test, indent=2))]
    if folder is not None:
        texts.append(("training", read_file(os.path.join(folder, MANIFEST)).decode()))
    sections.append(Section("settings", "Settings and versions", texts=texts))
    title = f"{tested.pairs.name}: {row.kind.title(False)}"
    path = page_output(json_path, config).path
    write_page(path, title, table.title, sections)
    return path


def shown_queries(config, tested, count, most):
    """Rows of at most `most` of the `count` queries that a section shows, and a line on how they were chosen."""
    rows = config.chosen(tested.task, tested.ranks, count)
    if not rows:
        return rows, "No query is wrong."
    what = "Named." if config.queries else "Drawn at random from the wrong ones." if config.only_wrong else "Drawn at random."
    return rows[:most], what if len(rows) <= most else f"{what} The first {most} of {len(rows):,}."


def _chart(figure, alt, caption=""):
    return Picture(figure, alt, caption, "chart")


def _curves(row, folder, tested):
    caption = f"{len(tested.ranks):,} queries; the hardest negative is the closest wrong reference."
    histogram = similarity_histogram(*margins(tested.task, tested.found))
    yield _chart(recall_figure([row], {}, SIZE), "Curve of recall@K of this test")
    yield _chart(histogram, "Histogram of similarities with the truth and the hardest negative", caption)
    if folder is not None and (epochs := read_lines(os.path.join(folder, EPOCHS))):
        yield _chart(training_curves({"": epochs}, columns=1), "Curves of loss and recall over the epochs of training")


def _worst(tested):
    wrong = [row for row in np.argsort(-tested.ranks, kind="stable")[:WORST].tolist() if tested.ranks[row] > 0]
    if not wrong:
        return Section("worst", "Worst queries", "Every query's best reference is a hit.")
    columns, cells = ["query", "rank"], [[tested.task.ids[row], f"{tested.ranks[row] + 1:,}"] for row in wrong]
    if tested.task.query_utm is not None:
        columns.append("metres off")
        for row, line in zip(wrong, cells, strict=True):
            line.append(f"{tested.metres(row, tested.found.winners[row, 0]):,.1f}")
    return Section("worst", "Worst queries", "", columns, cells, pictures=_panels(tested, wrong[:PANELS]))


def _panels(tested, rows):
    """A Picture of each query; none without images."""
    if not os.path.isfile(tested.pairs.grd_paths[0]):
        return []
    alt = "Query {} and its best references; a hit is at rank {:,}"
    return [
        Picture(retrieval_panel(*query_images(tested, row)), alt.format(tested.task.ids[row], tested.ranks[row] + 1))
        for row in rows
    ]
