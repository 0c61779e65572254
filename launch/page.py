"""The page of a test: what its sections are made of."""

from runtime.files import read_json

import json
import os

import numpy as np

from input_data import images_of
from report.charts import place_map, similarity_histogram, training_curves
from report.curves import as_bytes, recall_figure
from report.epoch_lines import read_lines
from report.figures import WITH_ATTENTION, attention_panels, chosen_queries, retrieval_panels
from report.page import Section, Table, chart, photo, write_page
from report.rows import collect
from report.tables import cost_line, rank_lines, recall_rows, tested_line, tie_warning
from retrieval.margins import margins
from retrieval.task import GROUND_TO_AERIAL
from training.run_folder import EPOCHS, NOTE

PANELS, ATTENTION = 4, 1  # queries that are drawn where no flag says how many
WORST = 20  # queries that the table names


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
    rows = [
        (title, ["" if value is None else f"{value:.2f}" for value in values])
        for title, values in recall_rows(result, published)
    ]
    lines = [*rank_lines(result), cost_line(result["cost"]), tie_warning(result)]
    lines.append(published and f"Published: {published.source}.")
    folder = _run_folder(result["checkpoint"])
    sections = [_curves(json_path, folder, tested), _queries(args, tested), _worst(tested)]
    if args.direction == GROUND_TO_AERIAL and config.aggregation[0] in WITH_ATTENTION and tested.queries.ndim == 2:
        sections.append(_attention(args, tested, model, (config.sat_shape, config.grd_shape)))
    if tested.task.query_utm is not None:
        picture = chart(place_map(tested.task.query_utm, tested.ranks), "Map of the test places, coloured by their ranks")
        sections.append(Section("places", "Places", pictures=[picture]))
    sections.append(_settings(result, folder))
    title = f"{tested.pairs.name}: {config.network_type}, {'polar maps' if config.polar else 'aerial tiles'}"
    subtitle = tested_line(tested.pairs.name, config, result)
    path = json_path.removesuffix(".json") + ".html"
    write_page(path, title, subtitle, [f"R@{k}" for k in result["recall"]], rows, list(filter(None, lines)), sections)
    return path


def _run_folder(checkpoint):
    """The folder of the run that a checkpoint is of, or None: the checkpoint's own, or the one above."""
    own = os.path.dirname(os.path.abspath(checkpoint))
    return next((folder for folder in (own, os.path.dirname(own)) if os.path.isfile(os.path.join(folder, NOTE))), None)


def _curves(json_path, folder, tested):
    found, _ = collect([json_path])
    pictures = [chart(as_bytes(recall_figure(found, {})), "Curve of recall@K of this test")]
    epochs = read_lines(os.path.join(folder, EPOCHS)) if folder is not None else []
    if epochs:
        pictures.append(chart(training_curves({"training": epochs}), "Curves of loss and recall over the epochs of training"))
    _, positive, negative = margins(tested.references, tested.queries, tested.task)
    histogram = similarity_histogram(positive, negative)
    caption = f"{len(positive):,} queries; the hardest negative is the closest reference that is no hit."
    pictures.append(chart(histogram, "Histogram of similarities with the truth and the hardest negative", caption))
    return Section("curves", "Curves", pictures=pictures)


def _queries(args, tested):
    rows = chosen_queries(tested.task, args.figures or PANELS, args.queries, tested.ranks > 0 if args.only_wrong else None)
    return Section("queries", "Queries", "Named" if args.queries else "Drawn at random", _panels(tested, rows))


def _worst(tested):
    order = np.argsort(-tested.ranks, kind="stable")[:WORST].tolist()
    wrong = [row for row in order if tested.ranks[row] > 0]
    if not wrong:
        return Section("worst", "Worst queries", "Every query's best reference is a hit.")
    table = Table(["query", "rank"], [[tested.task.ids[row], f"{tested.ranks[row] + 1:,}"] for row in wrong])
    return Section("worst", "Worst queries", "", _panels(tested, wrong[:PANELS]), table)


def _panels(tested, rows):
    panels = retrieval_panels(tested, rows) if rows else ()
    alts = [f"Query {tested.task.ids[row]} and its best references; a hit is at rank {tested.ranks[row] + 1:,}" for row in rows]
    return [photo(panel, alt) for panel, alt in zip(panels, alts, strict=True)]


def _attention(args, tested, model, shapes):
    rows = chosen_queries(tested.task, args.attention or ATTENTION, args.queries, tested.ranks > 0 if args.only_wrong else None)
    panels = attention_panels(tested, rows, model, images_of(tested.pairs, shapes, panoramas=tested.turned)) if rows else ()
    note = (
        "Parts: each position's part of the similarity with the best match; they add up to it. Weights: those of each "
        "embedding. Red is positive, blue negative."
    )
    alts = [f"Attention of query {tested.task.ids[row]} and its best match" for row in rows]
    pictures = [photo(panel, alt) for panel, alt in zip(panels, alts, strict=True)]
    return Section("attention", "What the descriptors rest on", note, pictures)


def _settings(result, folder):
    test = {name: value for name, value in result.items() if name not in ("ranks", "recall_curve")}
    texts = [("test", json.dumps(test, indent=2))]
    if folder is not None:
        texts.append(("training", json.dumps(read_json(os.path.join(folder, NOTE)), indent=2)))
    return Section("settings", "Settings and versions", texts=texts)
