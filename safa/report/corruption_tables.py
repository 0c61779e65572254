"""Tests on corrupted queries together: R@1 by corruption and severity, as tables and as a heat map."""

import dataclasses
import math
import statistics

from safa.datasets.corruptions import CORRUPTIONS, SEVERITIES
from safa.report.drawing import new_figure
from safa.report.rows import Row
from safa.report.table_formats import Line, RecallTable

PUBLISHED = "published"
UNLIKE = "no means, as the severities were tested with other seeds, or on other queries"
COLUMNS = (*map(str, SEVERITIES), "mean", "of clean", PUBLISHED)
SIZE = 720, 600  # pixels


def without_severities(rows):
    """The rows, where those of one network and corruption in all severities are one Row, whose mean is over these."""
    kinds, merged = {}, []
    for row in rows:
        kinds.setdefault(row.kind.of_all_severities, []).append(row)
    for kind, found in kinds.items():
        is_whole = len(found) == len(SEVERITIES)
        merged += [Row(kind, [each for row in found for each in row.results], found[0].name)] if is_whole else found
    return merged


def corruption_tables(rows, tested=None):
    """A RecallTable for each network of `rows.collect` that was tested on a corruption of some severity.

    A line is a corruption: R@1 in each severity, their mean, its share of clean queries' R@1, and the published mean. Means are
    of the same seeds and queries, as is the clean R@1, of one of `tested` (default: `rows`); else they are left out.
    """
    found, cleans = {}, {row.kind: row for row in tested or rows}
    for row in rows:
        name, severity = row.kind.corruption
        if severity is not None:
            kind = dataclasses.replace(row.kind, view=row.kind.view.removesuffix(f"{name}_{severity}").rstrip("_"))
            found.setdefault(kind, {}).setdefault(name, []).append(row)
    return [_table(kind, by_name, cleans) for kind, by_name in found.items()]


def _table(kind, by_name, cleans):
    lines, sources, means = [], {}, []
    rows = [row for found in by_name.values() for row in found]
    result, samples, clean = rows[0].results[0], set(map(_sample, rows)), cleans.get(rows[0].kind.clean)
    clean = _first(clean) if clean and {_sample(clean)} == samples else None
    for name in filter(by_name.__contains__, CORRUPTIONS):
        cells = {row.kind.corruption[1]: f"{_first(row):.2f}" for row in by_name[name]}
        if len(cells) == len(SEVERITIES) and len(samples) == 1:
            means.append(statistics.fmean(map(_first, by_name[name])))
            cells |= _mean_cells(means[-1], clean)
        mean_row = dataclasses.replace(by_name[name][0], kind=by_name[name][0].kind.of_all_severities)
        if (published := mean_row.published) is not None:
            sources[published.note] = published.source
            cells[PUBLISHED] = f"{published.recalls[0]:.2f}"
        lines.append(Line(name.replace("_", " "), cells, None, note=1 if published else None))
    if len(means) == len(CORRUPTIONS):
        lines.append(Line("mean", _mean_cells(statistics.fmean(means), clean), "mean"))
    of = f"R@1 of {result.queries:,} queries among {result.references:,} references{clean and f', clean {clean:.2f}' or ''}"
    columns = {name: name for name in COLUMNS if any(name in line.cells for line in lines)}
    title = f"{kind.table}, {kind.title()}, corrupted queries: {of}"
    seeds, notes = len(rows[0].results), [UNLIKE] * (len(samples) > 1)
    about = "R@1 in percent by corruption and severity" + f"; mean over {seeds} seeds" * (seeds > 1)
    return RecallTable(title, columns, lines, sources, notes, about)


def _sample(row):
    return row.results[0].query_ids, *(result.seed for result in row.results)


def _first(row):
    return row.percents()[0][0]


def _mean_cells(mean, clean):
    return {"mean": f"{mean:.2f}"} | ({"of clean": f"{100 * mean / clean:.1f}"} if clean else {})


def heat_map(table):
    """R@1 by corruption and severity of a table of `corruption_tables`, as a matplotlib Figure; what is missing is blank."""
    lines = [line for line in table.lines if line.group is None]
    values = [[float(line.cells.get(str(severity), "nan")) for severity in SEVERITIES] for line in lines]
    figure = new_figure(*SIZE, dpi=150, layout="constrained")
    axes = figure.subplots()
    shown = axes.imshow(values, cmap="viridis", vmin=0, vmax=100, aspect="auto")
    for row, of_row in enumerate(values):
        for column, value in enumerate(of_row):
            look = {"ha": "center", "va": "center", "color": "black" if value > 60 else "white"}
            axes.text(column, row, "" if math.isnan(value) else f"{value:.1f}", **look)
    axes.set_xticks(range(len(SEVERITIES)), SEVERITIES)
    axes.set_yticks(range(len(lines)), [line.title for line in lines])
    axes.set(title="R@1 on corrupted queries", xlabel="severity")
    figure.colorbar(shown, ax=axes, label="percent")
    return figure
