"""Tables of rows as text, Markdown, LaTeX and CSV: one table for each dataset and split."""

import csv
import dataclasses
import io
import itertools
import re

from tabulate import tabulate

from safa.report.published import OTHERS
from safa.report.result_file import RECALLS
from safa.report.rows import COSTS
from safa.retrieval.evaluation import HEADING_DEGREES

COLUMNS = ("", "seeds", *(f"R@{k}" for k in RECALLS), "M param.", "GMAC", "values", "ms")
PART = "- "  # begins a line that says more about the line above


@dataclasses.dataclass(frozen=True)
class RecallTable:
    """A table.

    Attributes:
        title: dataset and split, and how many queries and references.
        lines: lists of texts, of COLUMNS or the first of them.
        notes: lines below it: "[1] ..." says where published recalls were printed.
    """

    title: str
    lines: list
    notes: list

    def formatted(self, kind, lines=None):
        """The lines as tabulate's table of that kind."""
        align = ["left", *["right"] * (len(COLUMNS) - 1)]
        return tabulate(lines or self.lines, COLUMNS, kind, disable_numparse=True, colalign=align)


def tables_of(rows, with_others=False):
    """A RecallTable for each dataset and split of `rows.collect`; with the published recalls of other systems, if asked."""
    made = []
    for (dataset, split), found in itertools.groupby(rows, key=lambda row: (row.kind.dataset, row.kind.split)):
        group, lines, sources = list(found), [], []
        all_sizes = {row.kind.sizes for row in group}
        for row in group:
            lines += _lines(row, sources, with_sizes=len(all_sizes) > 1)
        trained_on = {None if row.kind.is_home else row.kind.trained_on for row in group if row.is_comparable}
        others = [key for key in OTHERS if with_others and key[0] == dataset and key[1] in trained_on]
        for key in others:
            away = "" if key[1] is None else f", trained on {key[1]}"
            lines += [_published(f"{system}{away}", published, sources) for system, published in OTHERS[key].items()]
        counts = sorted({(row.results[0].queries, row.results[0].references) for row in group})
        sizes = [f"{queries:,} queries among {references:,} references" for queries, references in counts]
        sizes += all_sizes if len(all_sizes) == 1 and all_sizes != {""} else []
        notes = [f"[{number}] {source}" for number, source in enumerate(sources, 1)]
        if with_others and not others:
            notes.append("published recalls of other systems are left out: they are of another task, or among more references")
        made.append(RecallTable(f"{dataset} {split}: {'; '.join(sizes)}", lines, notes))
    return made


def _lines(row, sources, with_sizes):
    """The lines of a Row; `with_sizes`: its title says the network's sizes."""
    lines = []
    for name in row.recalls:
        title = re.sub(r"(\d)m$", r"\1 m", name.removeprefix("recall_").removesuffix("_recall").replace("_", " "))
        first, more = [PART + title, ""], []
        if name == "recall":
            seeds = "" if row.kind.weights else str(len(row.results))
            first, more = [row.kind.title(with_sizes), seeds], _cost_cells(row.costs)
        if name != "pessimistic_recall" or any(result.tied_queries for result in row.results):
            lines.append([*first, *map(_mean, row.percents(name)), *more])
        if interval := row.interval(name):
            lines.append([f"{PART}95 % interval", "", *(f"{low:.2f}-{high:.2f}" for low, high in interval)])
    right = [100 * result.heading_right for result in row.results if result.heading_right is not None]
    if right:
        lines.append([f"{PART}heading within {HEADING_DEGREES:g}°", "", f"{sum(right) / len(right):.2f}"])
    if row.published is not None:
        lines.append(_published(None, row.published, sources))
        lines.append([f"{PART}difference", "", *(f"{value:+.2f}" for value in row.differences)])
    return lines


def _published(system, published, sources):
    """The line of a Published, of a system or of the row above it; its source is added to `sources`."""
    if published.source not in sources:
        sources.append(published.source)
    title = f"{PART}published" if system is None else f"{system} (published)"
    return [f"{title} [{sources.index(published.source) + 1}]", "", *map(_percent, published.recalls)]


def _percent(value):
    return "" if value is None else f"{value:.2f}"


def _mean(mean_and_deviation):
    return " ± ".join(f"{value:.2f}" for value in mean_and_deviation if value is not None)


def _cost_cells(costs):
    parameters, gmac, descriptor, milliseconds = (costs[name] for name in COSTS)
    milliseconds = "" if milliseconds is None else f"{milliseconds:.3g}"
    return [f"{parameters / 1e6:.2f}", f"{gmac:.3g}", f"{descriptor:,}", milliseconds]


def as_text(tables):
    """Tables for a terminal."""
    return "\n\n".join("\n".join([table.title, table.formatted("simple"), *table.notes]) for table in tables)


def as_markdown(tables):
    """Tables in Markdown."""
    blocks = []
    for table in tables:
        lines = [[first.replace("|", "\\|"), *others] for first, *others in table.lines]
        blocks += [f"**{table.title}** (recalls in percent)", table.formatted("pipe", lines), "  \n".join(table.notes)]
    return "\n\n".join(filter(None, blocks)) + "\n"


def as_latex(tables):
    """Tables in LaTeX, for the package booktabs."""
    blocks = ["% needs \\usepackage{booktabs}"]
    for table in tables:
        # tabulate escapes LaTeX's characters, so what is LaTeX comes after it.
        body = re.sub(rf"(?m)^ *{PART}", r"\\quad ", table.formatted("latex_booktabs")).replace("±", r"$\pm$")
        title, *notes = (re.sub(r"([_%&#])", r"\\\1", text) for text in (table.title, *table.notes))
        caption = f"\\caption{{{title}. Recalls in percent.}}"
        notes = [rf"\par\footnotesize {note}" for note in notes]
        blocks.append("\n".join(["\\begin{table}", "\\centering", caption, body, *notes, "\\end{table}"]))
    return "\n\n".join(blocks) + "\n"


def as_csv(rows):
    """All rows as one CSV table, a line each, recalls in percent."""
    text, lines = io.StringIO(), []
    for row in rows:
        means, ends = row.percents(), row.interval() or [(None, None)] * len(RECALLS)
        published = row.published.recalls if row.published else [None] * len(RECALLS)
        recalls = {
            "recall": [mean for mean, _ in means],
            "deviation": [deviation for _, deviation in means],
            "low": [low for low, _ in ends],
            "high": [high for _, high in ends],
            "published": published,
            "difference": row.differences or [None] * len(RECALLS),
        }
        cells = {f"{name}@{k}": _percent(each) for name, four in recalls.items() for k, each in zip(RECALLS, four, strict=True)}
        seeds = {"seeds": " ".join(str(result.seed) for result in row.results), "queries": row.results[0].queries}
        lines.append(dataclasses.asdict(row.kind) | seeds | cells | row.costs)
    writer = csv.DictWriter(text, lines[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()
