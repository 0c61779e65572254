"""Tests on corrupted queries: their images, which tests of a grid are finished, and what a grid ends with."""

import os

import numpy as np

from safa.datasets.corruptions import library, published_panoramas
from safa.datasets.file_checks import check_files
from safa.report.corruption_tables import corruption_tables, heat_map
from safa.report.page import Picture, Section
from safa.report.rows import collect
from safa.report.table_formats import as_text
from safa.retrieval.resumable_rows import files_digest
from safa.runtime.cluster import say
from safa.runtime.errors import UserError
from safa.runtime.files import read_json


def queries_of(views, pairs, network, skip_missing):
    """The Pairs of a test, and {QueryView: (Pairs that its queries are read from, their files_digest)}.

    Files of corrupted queries are checked as those of `pairs` were. Where one is missing, its pair is left out of all views.
    """
    found, shapes = {(False, None): pairs}, (network.sat_shape, network.grd_shape)
    for folder in dict.fromkeys(view.queries_dir for view in views if view.is_corrupted):
        found[True, folder], note = check_files(published_panoramas(pairs, folder), shapes, skip_missing)
        say(note)
    ids, read_of = set.intersection(*(set(each.ids) for each in found.values())), {}
    for kind, each in found.items():
        rows = [row for row, own in enumerate(each.ids) if own in ids]
        of_view = each.take(rows, None if each.one_to_one else np.arange(len(each.sat_paths)))
        read_of[kind] = of_view, files_digest(of_view.grd_paths)
    return read_of[False, None][0], {view: read_of[view.is_corrupted, view.queries_dir] for view in views}


def seen_of(view):
    """What descriptors and results say of a QueryView."""
    if not view.is_corrupted:
        return {"view": view.name}
    made = os.path.abspath(view.queries_dir) if view.queries_dir else f"corrupt-tta {library().__version__}"
    return {"view": view.name, "corrupted_with": made}


def unfinished(known_of, path_of, distribution):
    """The views of a grid without a result file of which all this is known, as the chief finds them; the last one always."""
    views = list(known_of)
    if len(views) == 1:
        return views
    import tensorflow as tf

    done = tf.Variable([int(_is_finished(path_of[view], known_of[view])) for view in views[:-1]] + [0])
    distribution.share_chiefs_values([done])
    return [view for view, is_done in zip(views, done.numpy(), strict=True) if not is_done]


def _is_finished(path, known):
    try:
        content = read_json(path, dict, "it is tested again")
    except (FileNotFoundError, UserError):
        return False
    return all(content.get(name) == value for name, value in known.items())


def grid_section(path_of):
    """Print the table of a grid, and return the page's Section with its heat map."""
    table = corruption_tables(collect(path_of.values())[0])[0]
    print("", as_text([table]), sep="\n", flush=True)
    picture = Picture(heat_map(table), "Heat map of R@1 by corruption and severity", kind="chart")
    return Section("corruptions", "Corrupted queries", table.title, ["", *table.columns], table.texts, table.below, [picture])
