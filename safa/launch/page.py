"""The page of a test: what its sections are made of."""

import json
import os

import numpy as np

from safa.report.attention_panels import attention_panel
from safa.report.charts import SIZE, place_map, recall_figure, similarity_histogram, training_curves
from safa.report.drawing import file_bytes
from safa.report.epoch_lines import read_lines
from safa.report.figures import WITH_ATTENTION
from safa.report.page import HtmlTable, Section, chart, photo, write_page
from safa.report.result_lines import COLUMNS, recall_cells, tested_line
from safa.report.retrieval_panels import query_images, retrieval_panel
from safa.retrieval.margins import margins
from safa.retrieval.task import GROUND_TO_AERIAL
from safa.runtime.files import read_file, read_json
from safa.training.run_folder import EPOCHS, MANIFEST

PANELS, ATTENTION = 4, 1  # queries that are drawn where no flag says how many
MOST_PANELS, MOST_ATTENTION = 24, 6  # of a page that stays below 10 MB; the folder of figures has all
WORST = 20  # queries that the table names
FRAMES = "Green frames: hits; red: others; blue: the truth. Captions: rank, similarity, metres off where they are known."
LAYERS = (
    "Parts: each position's part of the similarity with the best match; they add up to it. Weights: those of each embedding. "
    "Red is positive, blue negative."
)


def report_page(config, json_path, row, tested, model):
    """Write the page of a test beside its result file; returns its path.

    Args:
        config: report.figures.FigureConfig.
        json_path: of the result file.
        row: report.rows.Row of it alone.
        tested: report.figures.FigureSource.
        model: keras.Model with the tested weights.
    """
    (result,), network = row.results, row.results[0].network
    own = os.path.dirname(os.path.abspath(result.checkpoint))  # or the one above: what training wrote
    folder = next((each for each in (own, os.path.dirname(own)) if os.path.isfile(os.path.join(each, MANIFEST))), None)
    cells, below = recall_cells(row)
    rows, note = shown_queries(config, tested, config.figures or PANELS, MOST_PANELS)
    sections = [
        Section("recall", "Recall", table=HtmlTable(COLUMNS, cells), lines=below),
        _curves(row, folder, tested),
        Section("queries", "Queries", f"{note} {FRAMES * bool(rows)}", pictures=_panels(tested, rows)),
        _worst(tested),
    ]
    if tested.direction == GROUND_TO_AERIAL and network.aggregation[0] in WITH_ATTENTION and tested.queries.ndim == 2:
        rows, note = shown_queries(config, tested, config.attention or ATTENTION, MOST_ATTENTION)
        alt = "Attention of query {} and its best match"
        pictures = [photo(attention_panel(tested, row, model), alt.format(tested.task.ids[row])) for row in rows]
        sections.append(
            Section("attention", "What the descriptors rest on", f"{note} {LAYERS * bool(rows)}", pictures=pictures)
        )
    if tested.task.query_utm is not None:
        picture = chart(place_map(tested.task.query_utm, tested.ranks), "Map of the test places, coloured by their ranks")
        sections.append(Section("places", "Places", pictures=[picture]))
    sections.append(_settings(json_path, folder))
    title = f"{tested.pairs.name}: {network.network_type}, {'polar maps' if network.polar else 'aerial tiles'}"
    path = json_path.removesuffix(".json") + ".html"
    write_page(path, title, tested_line(row), sections)
    return path


def shown_queries(config, tested, count, most):
    """The queries that a section shows.

    Args:
        config, tested: as of `report_page`.
        count: how many are drawn.
        most: how many of them are shown.

    Returns:
        Their rows, and a line on how they were chosen.
    """
    rows = config.chosen(tested.task, tested.ranks, count)
    if not rows:
        return rows, "No query is wrong."
    what = "Named." if config.queries else "Drawn at random from the wrong ones." if config.only_wrong else "Drawn at random."
    return rows[:most], what if len(rows) <= most else f"{what} The first {most} of {len(rows):,}."


def _curves(row, folder, tested):
    caption = f"{len(tested.ranks):,} queries; the hardest negative is the closest reference that is no hit."
    histogram = similarity_histogram(*margins(tested.task, tested.found))
    pictures = [
        chart(file_bytes(recall_figure([row], {}, SIZE)), "Curve of recall@K of this test"),
        chart(histogram, "Histogram of similarities with the truth and the hardest negative", caption),
    ]
    if folder is not None and (epochs := read_lines(os.path.join(folder, EPOCHS))):
        curves = training_curves({"training": epochs}, columns=1)
        pictures.append(chart(curves, "Curves of loss and recall over the epochs of training"))
    return Section("curves", "Curves", pictures=pictures)


def _worst(tested):
    wrong = [row for row in np.argsort(-tested.ranks, kind="stable")[:WORST].tolist() if tested.ranks[row] > 0]
    if not wrong:
        return Section("worst", "Worst queries", "Every query's best reference is a hit.")
    columns, cells = ["query", "rank"], [[tested.task.ids[row], f"{tested.ranks[row] + 1:,}"] for row in wrong]
    if tested.task.query_utm is not None:
        columns.append("metres off")
        for row, line in zip(wrong, cells, strict=True):
            line.append(f"{tested.metres(row, tested.found.winners[row, 0]):,.1f}")
    return Section("worst", "Worst queries", "", HtmlTable(columns, cells), pictures=_panels(tested, wrong[:PANELS]))


def _panels(tested, rows):
    """A Picture of each query."""
    alts = [f"Query {tested.task.ids[row]} and its best references; a hit is at rank {tested.ranks[row] + 1:,}" for row in rows]
    return [photo(retrieval_panel(*query_images(tested, row)), alt) for row, alt in zip(rows, alts, strict=True)]


def _settings(json_path, folder):
    content = read_json(json_path, dict, "test again")
    test = {name: value for name, value in content.items() if name not in ("ranks", "recall_curve")}
    texts = [("test", json.dumps(test, indent=2))]
    if folder is not None:
        texts.append(("training", read_file(os.path.join(folder, MANIFEST)).decode()))
    return Section("settings", "Settings and versions", texts=texts)
