"""Tables of rows as text, Markdown, LaTeX and CSV: one table for each dataset and split."""

import csv
import dataclasses
import io
import itertools
import re

from safa.report.result_file import RECALLS
from safa.report.rows import COSTS, others

COLUMNS = ("", "seeds", *(f"R@{k}" for k in RECALLS), "M param.", "GMAC", "values", "ms")
EMPTY = ("",) * len(COLUMNS)
TEX = str.maketrans({character: f"\\{character}" for character in "&%$#_{}"})  # how LaTeX writes what it would obey
TEX |= str.maketrans({"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"})


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of a table.

    Attributes:
        cells: texts of COLUMNS.
        is_part: whether it says more about the line above.
    """

    cells: tuple
    is_part: bool = False


@dataclasses.dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        title: dataset and split, and how many queries and references.
        lines: list of Line.
        sources: of the published figures, in words; their lines say "[1]" for the first.
    """

    title: str
    lines: list
    sources: list


def tables_of(rows, with_others=False):
    """A Table for each dataset and split.

    Args:
        rows: of `rows.collect`.
        with_others: whether the published recalls of other systems follow.
    """
    made = []
    for (dataset, split), group in itertools.groupby(rows, key=lambda row: (row.kind.dataset, row.kind.split)):
        group = list(group)
        lines, sources = [], _Sources()
        all_sizes = {row.kind.sizes for row in group}
        for row in group:
            lines += _lines(row, sources, with_sizes=len(all_sizes) > 1)
        if with_others:
            for system, published in others(dataset).items():
                title = f"{system} (published) {sources.mark(published)}"
                lines.append(Line(_cells(title, map(_figure, published.recalls))))
        counts = sorted({(row.results[0]["queries"], row.results[0]["references"]) for row in group})
        sizes = "; ".join(f"{queries:,} queries among {references:,} references" for queries, references in counts)
        sizes += f"; {all_sizes.pop()}" if len(all_sizes) == 1 and all_sizes != {""} else ""
        made.append(Table(f"{dataset} {split}: {sizes}", lines, list(sources.numbers)))
    return made


class _Sources:
    """Numbers the sources of a table's published figures."""

    def __init__(self):
        self.numbers = {}

    def mark(self, published):
        """ "[1]" for the first source, also where it comes again."""
        return f"[{self.numbers.setdefault(published.source, len(self.numbers) + 1)}]"


def _lines(row, sources, with_sizes):
    """The lines of a Row; `with_sizes`: its title says the network's sizes."""
    percents = [_mean(*row.percents()[k]) for k in RECALLS]
    lines = [Line(_cells(row.kind.title(with_sizes), percents, str(len(row.results)), _cost_cells(row.costs)))]
    if row.interval is not None:
        lines.append(Line(_cells("95 % interval", [f"{low:.2f}-{high:.2f}" for low, high in row.interval.values()]), True))
    for name in row.recalls:
        if name != "recall" and (name != "pessimistic_recall" or any(result["tied_queries"] for result in row.results)):
            title = re.sub(r"(\d)m$", r"\1 m", name.removeprefix("recall_").removesuffix("_recall").replace("_", " "))
            lines.append(Line(_cells(title, [_mean(*row.percents(name)[k]) for k in RECALLS]), True))
    right = [100 * result["heading_right"] for result in row.results if "heading_right" in result]
    if right:
        lines.append(Line(_cells("heading right", [f"{sum(right) / len(right):.2f}"]), True))
    if row.published is not None:
        lines.append(Line(_cells(f"published {sources.mark(row.published)}", map(_figure, row.published.recalls)), True))
        lines.append(Line(_cells("difference", [f"{value:+.2f}" for value in row.differences.values()]), True))
    return lines


def _marked(table):
    return [(f"[{number}]", source) for number, source in enumerate(table.sources, 1)]


def _cells(title, recalls, seeds="", costs=()):
    return tuple(itertools.islice(itertools.chain([title, seeds], _padded(recalls), costs, EMPTY), len(COLUMNS)))


def _padded(recalls):
    return itertools.islice(itertools.chain(recalls, EMPTY), len(RECALLS))


def _figure(value):
    return "" if value is None else f"{value:.2f}"


def _mean(mean, deviation):
    return f"{mean:.2f}" if deviation is None else f"{mean:.2f} ± {deviation:.2f}"


def _cost_cells(costs):
    parameters, gmac, descriptor, milliseconds = (costs[name] for name in COSTS)
    return [
        "" if parameters is None else f"{parameters / 1e6:.2f}",
        "" if gmac is None else f"{gmac:.3g}",
        "" if descriptor is None else f"{descriptor:,}",
        "" if milliseconds is None else f"{milliseconds:.3g}",
    ]


def as_text(tables):
    """Tables for a terminal."""
    blocks = []
    for table in tables:
        shown = [COLUMNS, *(("  " * line.is_part + line.cells[0], *line.cells[1:]) for line in table.lines)]
        widths = [max(len(cells[column]) for cells in shown) for column in range(len(COLUMNS))]
        lines = [
            "  ".join(
                cell.ljust(width) if number == 0 else cell.rjust(width)
                for number, (cell, width) in enumerate(zip(cells, widths, strict=True))
            ).rstrip()
            for cells in shown
        ]
        blocks.append("\n".join([table.title, *lines, *(f"{mark} {source}" for mark, source in _marked(table))]))
    return "\n\n".join(blocks)


def as_markdown(tables):
    """Tables in Markdown."""
    blocks = []
    for table in tables:
        lines = [f"**{table.title}** (recalls in percent)", "", "| " + " | ".join(COLUMNS) + " |"]
        lines.append("| --- |" + " ---: |" * (len(COLUMNS) - 1))
        for line in table.lines:
            first = f"*{line.cells[0]}*" if line.is_part else line.cells[0]
            lines.append("| " + " | ".join([first.replace("|", "\\|"), *line.cells[1:]]) + " |")
        lines += ["", *(f"{mark} {source}.  " for mark, source in _marked(table))]
        blocks.append("\n".join(lines).rstrip())
    return "\n\n".join(blocks) + "\n"


def as_latex(tables):
    """Tables in LaTeX, for the package booktabs."""
    blocks = []
    for table in tables:
        lines = [
            "\\begin{table}",
            "\\centering",
            f"\\caption{{{_tex(table.title)}. Recalls in percent.}}",
            f"\\begin{{tabular}}{{l{'r' * (len(COLUMNS) - 1)}}}",
            "\\toprule",
            " & ".join(map(_tex, COLUMNS)) + " \\\\",
            "\\midrule",
        ]
        for line in table.lines:
            first = ("\\quad " if line.is_part else "") + _tex(line.cells[0])
            lines.append(" & ".join([first, *map(_tex, line.cells[1:])]) + " \\\\")
        lines += ["\\bottomrule", "\\end{tabular}"]
        lines += [f"% {mark} {source}" for mark, source in _marked(table)]
        blocks.append("\n".join([*lines, "\\end{table}"]))
    return "% needs \\usepackage{booktabs}\n" + "\n\n".join(blocks) + "\n"


def _tex(text):
    return text.translate(TEX)


def as_csv(rows):
    """All rows as one CSV table, a line each, recalls in percent."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["dataset", "split", "network_type", "polar", "run", "trained_on", "direction", "view", "sizes", "seeds", "queries"]
        + [f"{name}@{k}" for name in ("recall", "deviation", "low", "high", "published", "difference") for k in RECALLS]
        + list(COSTS)
    )
    for row in rows:
        kind, percents, interval = row.kind, row.percents(), row.interval or {}
        published = dict(zip(RECALLS, row.published.recalls, strict=True)) if row.published is not None else {}
        groups = [
            {k: mean for k, (mean, _) in percents.items()},
            {k: deviation for k, (_, deviation) in percents.items()},
            {k: low for k, (low, _) in interval.items()},
            {k: high for k, (_, high) in interval.items()},
            published,
            row.differences or {},
        ]
        seeds = " ".join(str(result["seed"]) for result in row.results)
        writer.writerow(
            [*dataclasses.astuple(kind), seeds, row.results[0]["queries"]]
            + [_figure(group.get(k)) for group in groups for k in RECALLS]
            + list(row.costs.values())
        )
    return text.getvalue()
