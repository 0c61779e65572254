"""Tests on corrupted queries: their images, which tests of a grid are finished, and what a grid ends with."""

import os

from safa.datasets.corruptions import library, published_panoramas
from safa.datasets.file_checks import check_files
from safa.report.corruption_tables import corruption_tables, heat_map
from safa.report.page import Picture, Section
from safa.report.rows import collect
from safa.report.table_formats import as_text
from safa.retrieval.resumable_rows import files_digest
from safa.runtime.errors import UserError
from safa.runtime.files import read_json


def queries_of(views, pairs, network):
    """{QueryView: Pairs that its queries are read from}; those of corrupted queries are checked as `pairs` were."""
    found, shapes = {(False, None): pairs}, (network.sat_shape, network.grd_shape)
    for view in views:
        if view.is_corrupted and (True, view.queries_dir) not in found:
            found[True, view.queries_dir], _ = check_files(published_panoramas(pairs, view.queries_dir), shapes)
    return {view: found[view.is_corrupted, view.queries_dir if view.is_corrupted else None] for view in views}


def seen_of(view):
    """What descriptors and results say of a QueryView."""
    if not view.is_corrupted:
        return {"view": view.name}
    made = os.path.abspath(view.queries_dir) if view.queries_dir else f"corrupt-tta {library().__version__}"
    return {"view": view.name, "corrupted_with": made}


def grd_files_of(pairs_of):
    """{QueryView: files_digest of its queries} of `queries_of`; each file is looked at once."""
    unlike = {id(pairs): pairs for pairs in pairs_of.values()}
    digests = {number: files_digest(pairs.grd_paths) for number, pairs in unlike.items()}
    return {view: digests[id(pairs)] for view, pairs in pairs_of.items()}


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
    cells = [[line.noted_title, *(line.cells.get(name, "") for name in table.columns)] for line in table.lines]
    return Section("corruptions", "Corrupted queries", table.title, ["", *table.columns], cells, table.below, [picture])
