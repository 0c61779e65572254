"""Tests on corrupted queries: their images, which tests of a grid are finished, and what a grid ends with."""

import os

from safa.datasets.corruptions import library, published_panoramas
from safa.datasets.file_checks import check_files
from safa.report.corruption_tables import corruption_tables, heat_map
from safa.report.page import Picture, Section
from safa.report.rows import collect
from safa.report.table_formats import as_text
from safa.runtime.errors import UserError
from safa.runtime.files import read_json


def queries_of(views, pairs, network):
    """{PanoramaView: Pairs that its queries are read from}; those of corrupted queries are checked as `pairs` were."""
    found = {}
    for view in views:
        place = view.is_corrupted, view.folder
        if place not in found:
            found[place] = pairs
            if view.is_corrupted:
                shapes = network.sat_shape, network.grd_shape
                found[place], _ = check_files(published_panoramas(pairs, view.folder), shapes)
    return {view: found[view.is_corrupted, view.folder] for view in views}


def is_finished(path, known):
    """Whether a result file is of the test of which all this is known: {name: value}."""
    try:
        content = read_json(path, dict, "tested again")
    except (FileNotFoundError, UserError):
        return False
    return all(content.get(name) == value for name, value in known.items())


def seen_of(view):
    """What descriptors and results say of a PanoramaView."""
    seen = {"view": view.name}
    if view.is_corrupted:
        seen["corrupted_with"] = os.path.abspath(view.folder) if view.folder else f"corrupt-tta {library().__version__}"
    return seen


def unfinished(views, path_of, known, distribution):
    """The views of a grid that have no result file of which this is known, as the chief finds them; the last one always."""
    if len(views) == 1:
        return views
    import tensorflow as tf

    done = tf.Variable([int(is_finished(path_of[view], known | seen_of(view))) for view in views[:-1]])
    distribution.share_chiefs_values([done])
    return [view for view, is_done in zip(views, [*done.numpy(), 0], strict=True) if not is_done]


def grid_section(path_of):
    """The page's Section of a grid, with its heat map; its table is printed."""
    rows, _ = collect(path_of.values())
    (table,) = corruption_tables(rows)
    print("", as_text([table]), sep="\n", flush=True)
    lines = [[line.noted_title, *(line.cells.get(name, "") for name in table.columns)] for line in table.lines]
    picture = Picture(heat_map(table), "Heat map of R@1 by corruption and severity", kind="chart")
    return Section("corruptions", "Corrupted queries", table.title, ["", *table.columns], lines, table.below, [picture])
