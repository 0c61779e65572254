"""The page of a test: what its sections are made of."""

import json
import os

import numpy as np

from safa.datasets.pair_images import PairImages
from safa.report.charts import SIZE, place_map, similarity_histogram, training_curves
from safa.report.curves import as_bytes, recall_figure
from safa.report.epoch_lines import read_lines
from safa.report.figures import WITH_ATTENTION, attention_panels, chosen_queries, retrieval_panels
from safa.report.page import Section, Table, chart, photo, write_page
from safa.report.rows import collect
from safa.report.tables import cost_line, rank_lines, recall_rows, tested_line, tie_warning
from safa.retrieval.margins import margins
from safa.retrieval.task import GROUND_TO_AERIAL
from safa.runtime.files import read_file
from safa.runtime.provenance import session
from safa.training.run_folder import EPOCHS, MANIFEST

PANELS, ATTENTION = 4, 1  # queries that are drawn where no flag says how many
MOST_PANELS, MOST_ATTENTION = 24, 6  # of a page that stays below 10 MB; the folder of figures has all
WORST = 20  # queries that the table names
FRAMES = "Green frames: hits; red: others; blue: the truth. Captions: rank, similarity, metres off where positions are known."


def report_page(args, json_path, result, published, tested, config, model):
    """Write the page of a test beside its result file; returns its path.

    Args:
        args: parsed flags of `launch.figures.add_figures`.
        json_path: of the result file.
        result: content of the result file, with ranks.
        published: report.published.Published, or None.
        tested: launch.figures.FigureSource.
        config: settings.NetworkConfig.
        model: keras.Model with the tested weights.
    """
    folder = _run_folder(result["checkpoint"])
    sections = [
        recall_section(result, published),
        _curves(json_path, folder, tested),
        _queries(args, tested),
        _worst(result, tested),
    ]
    if args.direction == GROUND_TO_AERIAL and config.aggregation[0] in WITH_ATTENTION and tested.queries.ndim == 2:
        sections.append(_attention(args, tested, model, (config.sat_shape, config.grd_shape)))
    if tested.task.query_utm is not None:
        picture = chart(place_map(tested.task.query_utm, tested.ranks), "Map of the test places, coloured by their ranks")
        sections.append(Section("places", "Places", pictures=[picture]))
    sections.append(_settings(result, folder))
    title = f"{tested.pairs.name}: {config.network_type}, {'polar maps' if config.polar else 'aerial tiles'}"
    subtitle = tested_line(tested.pairs.name, config, result)
    path = json_path.removesuffix(".json") + ".html"
    write_page(path, title, subtitle, sections)
    return path


def recall_section(result, published):
    """The Section of a test's recalls, with their intervals and the published ones; arguments as of `report_page`."""
    rows = [
        [title, *("" if value is None else f"{value:.2f}" for value in values)]
        for title, values in recall_rows(result, published)
    ]
    lines = [*rank_lines(result), cost_line(result["cost"]), tie_warning(result)]
    lines.append(published and f"published: {published.source}")
    table = Table(["percent", *(f"R@{k}" for k in result["recall"])], rows)
    return Section("recall", "Recall", table=table, lines=list(filter(None, lines)))


def _run_folder(checkpoint):
    """The folder of the run that a checkpoint is of, or None: the checkpoint's own, or the one above."""
    own = os.path.dirname(os.path.abspath(checkpoint))
    return next((folder for folder in (own, os.path.dirname(own)) if os.path.isfile(os.path.join(folder, MANIFEST))), None)


def _curves(json_path, folder, tested):
    found, _ = collect([json_path])
    recall = recall_figure(found, {})
    recall.set_size_inches(*SIZE)
    pictures = [chart(as_bytes(recall), "Curve of recall@K of this test")]
    positive, negative = margins(tested.task, tested.found)
    histogram = similarity_histogram(positive, negative)
    caption = f"{len(positive):,} queries; the hardest negative is the closest reference that is no hit."
    pictures.append(chart(histogram, "Histogram of similarities with the truth and the hardest negative", caption))
    epochs = read_lines(os.path.join(folder, EPOCHS)) if folder is not None else []
    if epochs:
        curves = training_curves({"training": epochs}, columns=1)
        pictures.append(chart(curves, "Curves of loss and recall over the epochs of training"))
    return Section("curves", "Curves", pictures=pictures)


def _queries(args, tested):
    rows, note = shown_queries(args, tested, args.figures or PANELS, MOST_PANELS)
    return Section("queries", "Queries", f"{note} {FRAMES}" if rows else note, pictures=_panels(tested, rows))


def shown_queries(args, tested, count, most):
    """The queries that a section shows.

    Args:
        args, tested: as of `report_page`.
        count: how many are drawn.
        most: how many of them are shown.

    Returns:
        Their rows, and a note on how they were chosen.
    """
    rows = chosen_queries(tested.task, count, args.queries, tested.ranks > 0 if args.only_wrong else None)
    if not rows:
        return rows, "No query is wrong."
    what = "Named." if args.queries else "Drawn at random from the wrong ones." if args.only_wrong else "Drawn at random."
    return rows[:most], what if len(rows) <= most else f"{what} The first {most} of {len(rows):,}."


def _worst(result, tested):
    order = np.argsort(-tested.ranks, kind="stable")[:WORST].tolist()
    wrong = [row for row in order if tested.ranks[row] > 0]
    if not wrong:
        return Section("worst", "Worst queries", "Every query's best reference is a hit.")
    columns, cells = ["query", "rank"], [[tested.task.ids[row], f"{tested.ranks[row] + 1:,}"] for row in wrong]
    if tested.task.query_utm is not None:
        columns.append("metres off")
        for row, line in zip(wrong, cells, strict=True):
            line.append(f"{tested.metres(row, result['ranks']['first_match'][row]):,.1f}")
    return Section("worst", "Worst queries", "", Table(columns, cells), pictures=_panels(tested, wrong[:PANELS]))


def _panels(tested, rows):
    panels = retrieval_panels(tested, rows) if rows else ()
    alts = [f"Query {tested.task.ids[row]} and its best references; a hit is at rank {tested.ranks[row] + 1:,}" for row in rows]
    return [photo(panel, alt, has_text=True) for panel, alt in zip(panels, alts, strict=True)]


def _attention(args, tested, model, shapes):
    rows, which = shown_queries(args, tested, args.attention or ATTENTION, MOST_ATTENTION)
    panels = attention_panels(tested, rows, model, PairImages.of(tested.pairs, shapes, tested.turned)) if rows else ()
    note = (
        f"{which} Parts: each position's part of the similarity with the best match; they add up to it. Weights: those of each "
        "embedding. Red is positive, blue negative."
    )
    alts = [f"Attention of query {tested.task.ids[row]} and its best match" for row in rows]
    pictures = [photo(panel, alt, has_text=True) for panel, alt in zip(panels, alts, strict=True)]
    return Section("attention", "What the descriptors rest on", note if rows else which, pictures=pictures)


def _settings(result, folder):
    test = {name: value for name, value in result.items() if name not in ("ranks", "recall_curve")} | {"session": session()}
    texts = [("test", json.dumps(test, indent=2))]
    if folder is not None:
        texts.append(("training", read_file(os.path.join(folder, MANIFEST)).decode()))
    return Section("settings", "Settings and versions", texts=texts)
