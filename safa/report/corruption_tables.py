"""Tests on corrupted queries together: R@1 by corruption and severity, as tables and as a heat map."""

import math
import statistics

from safa.datasets.corruptions import CORRUPTIONS, SEVERITIES
from safa.report.drawing import new_figure
from safa.report.rows import Row
from safa.report.table_formats import Line, RecallTable

PUBLISHED = "published"
COLUMNS = (*map(str, SEVERITIES), "mean", "of clean", PUBLISHED)
SIZE = 720, 600  # pixels


def without_severities(rows):
    """The rows, where those of one network and corruption are one Row, whose mean is over its severities."""
    kinds = {}
    for row in rows:
        kinds.setdefault(row.kind.without_severity, []).append(row)
    return [Row(kind, [result for row in found for result in row.results], found[0].name) for kind, found in kinds.items()]


def corruption_tables(rows):
    """A RecallTable for each network of `rows.collect` that was tested on a corruption of some severity.

    A line is a corruption: R@1 in each severity, their mean, its share of clean queries' R@1, and the published mean.
    """
    kinds, cleans = {}, {row.kind: row for row in rows}
    for row in rows:
        corruption, severity = row.kind.corruption
        if severity is not None:
            files = row.kind.view.endswith("_files")
            kinds.setdefault((row.kind.clean, files), {}).setdefault(corruption, []).append(row)
    return [_table(kind, files, cleans.get(kind), by_name) for (kind, files), by_name in kinds.items()]


def _table(kind, files, clean, by_name):
    base, lines, sources, means = None if clean is None else _first(clean), [], {}, []
    for name in filter(by_name.__contains__, CORRUPTIONS):
        cells = {row.kind.corruption[1]: f"{_first(row):.2f}" for row in by_name[name]}
        if len(cells) == len(SEVERITIES):
            means.append(statistics.fmean(map(_first, by_name[name])))
            cells |= _mean_cells(means[-1], base)
        published = without_severities(by_name[name])[0].published
        if published is not None:
            sources[published.note] = published.source
            cells[PUBLISHED] = f"{published.recalls[0]:.2f}"
        lines.append(Line(name.replace("_", " "), cells, None, note=1 if published else None))
    if len(means) == len(CORRUPTIONS):
        lines.append(Line("mean", _mean_cells(statistics.fmean(means), base), "mean"))
    (result, *_) = next(iter(by_name.values()))[0].results
    of = f"{result.queries:,} queries among {result.references:,} references, R@1" + f", clean {base:.2f}" * (base is not None)
    columns = {name: name for name in COLUMNS if any(name in line.cells for line in lines)}
    title = f"{kind.table}, {kind.title()}, corrupted queries{', files' * files}: {of}"
    return RecallTable(title, columns, lines, sources, [], "R@1 in percent by corruption and severity")


def _first(row):
    return row.percents()[0][0]


def _mean_cells(mean, base):
    return {"mean": f"{mean:.2f}"} | ({"of clean": f"{100 * mean / base:.1f}"} if base else {})


def heat_map(table):
    """R@1 by corruption and severity of a table of `corruption_tables`, as a matplotlib Figure; what is missing is blank."""
    lines = [line for line in table.lines if line.group is None]
    values = [[float(line.cells.get(str(severity), "nan")) for severity in SEVERITIES] for line in lines]
    figure = new_figure(*SIZE, dpi=150, layout="constrained")
    axes = figure.subplots()
    shown = axes.imshow(values, cmap="viridis", vmin=0, vmax=100, aspect="auto")
    for row, of_row in enumerate(values):
        for column, value in enumerate(of_row):
            if not math.isnan(value):
                axes.text(column, row, f"{value:.1f}", ha="center", va="center", color="black" if value > 60 else "white")
    axes.set_xticks(range(len(SEVERITIES)), SEVERITIES)
    axes.set_yticks(range(len(lines)), [line.title for line in lines])
    axes.set(title="R@1 on corrupted queries", xlabel="severity")
    figure.colorbar(shown, ax=axes, label="percent")
    return figure
