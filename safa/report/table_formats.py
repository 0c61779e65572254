"""Tables of rows as text, Markdown and CSV: one table for each dataset and split."""

import csv
import dataclasses
import io
import itertools
import re

from tabulate import tabulate

from recall import one_percent
from safa.report.comparison import welch_note
from safa.report.published import OTHERS
from safa.report.result_file import LAST, RECALLS
from safa.report.rows import ALL, COSTS, PUBLISHED_TITLE, pattern_of

AT = "R@"  # begins the columns of recalls
COST_COLUMNS = "M param.", "GMAC", "values", "ms"
COLUMNS = ("seeds", *(AT + k for k in RECALLS), *COST_COLUMNS)
PART = "- "  # begins a line that says more about the line above
LEFT_OUT = "published recalls of other systems are left out: they are of another task, or among more references"
BEST, SECOND = 1, 2
MARKDOWN = {BEST: "**{}**", SECOND: "<ins>{}</ins>", None: "{}"}


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of a table."""

    title: str  # what stands first; of a part, it begins with PART
    cells: dict  # {column: text}
    group: object  # lines of one kind, which rules part from others
    task: object = None  # whose recalls are ranked with each other; None of a part
    note: int | None = None  # number of its source among the table's
    marks: dict = dataclasses.field(default_factory=dict)  # {column: BEST or SECOND}

    @property
    def noted_title(self):
        return self.title + (f" [{self.note}]" if self.note else "")


@dataclasses.dataclass(frozen=True)
class RecallTable:
    """A table."""

    title: str  # dataset and split, and how many queries and references
    columns: dict  # {name: as it is printed}
    lines: list  # of Line
    sources: dict  # {line that says where recalls were printed: published.Source}, by the numbers of the lines' notes
    notes: list  # further lines below it
    about: str = "Recalls in percent"  # what the numbers are
    corner: str = ""  # above the titles

    @property
    def below(self):
        """Sources and notes, as lines."""
        return [*(f"[{number}] {source}" for number, source in enumerate(self.sources, 1)), *self.notes]

    @property
    def texts(self):
        """The lines, each a list of texts."""
        return [[line.noted_title, *(line.cells.get(name, "") for name in self.columns)] for line in self.lines]

    def formatted(self, kind, lines=None):
        """tabulate's table of that kind; `lines`: lists of texts, as they are if None."""
        align = ["left", *["right"] * len(self.columns)]
        return tabulate(lines or self.texts, [self.corner, *self.columns.values()], kind, disable_numparse=True, colalign=align)


def tables_of(rows, with_others=False, columns=None, chosen=ALL, against=None):
    """A RecallTable for each dataset and split of `rows.collect`; columns without a text are left out.

    Args:
        with_others: with the published recalls of other systems.
        columns: {name: as it is printed} (default: COLUMNS); recalls at any K.
        chosen: as of `rows.choose`: the published systems that are listed.
        against: title of a row that those of several seeds are tested against (`comparison.welch_note`).
    """
    made, columns = [], columns or {name: name for name in COLUMNS}
    for title, found in itertools.groupby(rows, key=lambda row: row.kind.table):
        group, lines, sources = list(found), [], {}
        all_sizes = {row.kind.sizes for row in group if row.kind.polar is not None}
        with_sizes = len(all_sizes) > 1
        for row in group:
            lines += _lines(row, columns, sources, with_sizes)
        tasks = {(row.kind.dataset, row.task[2]): row.task for row in group if with_others and row.is_comparable}
        others = [key for key in OTHERS if key in tasks]
        for key, system in [(each, system) for each in others for system in OTHERS[each]]:
            away, pattern = f", trained on {key[1]}" * bool(key[1]), pattern_of(chosen, PUBLISHED_TITLE.format(system))
            if pattern is not None:
                name = chosen[pattern] or PUBLISHED_TITLE.format(system + away)
                lines += _published(name, OTHERS[key][system], columns, sources, PUBLISHED_TITLE, tasks[key])
        counts = sorted({(row.results[0].queries, row.results[0].references) for row in group})
        sizes = [f"{queries:,} queries among {references:,} references" for queries, references in counts]
        sizes += all_sizes if len(all_sizes) == 1 and all_sizes != {""} else []
        notes = [] if against is None else [welch_note(group, against, with_sizes)]
        notes += [LEFT_OUT] if with_others and not others else []
        title, notes = f"{title}: {'; '.join(sizes)}", list(filter(None, notes))
        shown = {name: text for name, text in columns.items() if any(line.cells.get(name) for line in lines)}
        made.append(RecallTable(title, shown, _marked(lines, shown), sources, notes, _about(group)))
    return made


def _about(rows):
    seeds = sorted({len(row.results) for row in rows if len(row.results) > 1})
    count = " to ".join(map(str, dict.fromkeys((seeds[0], seeds[-1])))) if seeds else ""
    return "Recalls in percent" + f"; mean ± standard deviation over {count} seeds" * bool(seeds)


def _lines(row, columns, sources, with_sizes):
    """The lines of a Row; `with_sizes`: its title says the network's sizes."""
    lines, references = [], row.results[0].references
    # R@1% is R@1 among few references, and not shown twice.
    twice = {"R@1%"} if one_percent(references) == 1 and "R@1" in columns else ()
    ks = [each.removeprefix(AT) for each in columns if each.startswith(AT) and each not in twice]
    group = row.kind.is_papers_task, row.kind.polar

    def add(title, texts, task=None, **cells):
        cells |= {AT + k: text for k, text in zip(ks, texts, strict=False) if text}
        if cells:
            lines.append(Line(title, cells, group, task))

    for name in row.recalls:
        title = re.sub(r"(\d)m$", r"\1 m", name.removeprefix("recall_").removesuffix("_recall").replace("_", " "))
        recalls = [" ± ".join(f"{value:.2f}" for value in each or () if value is not None) for each in row.percents(name, ks)]
        if name == "recall":
            seeds = str(len(row.results)) if row.kind.weights in (None, LAST) else ""
            add(row.title(with_sizes), recalls, row.task, seeds=seeds, **_cost_cells(row.costs))
        elif name != "pessimistic_recall" or any(recalls[n] not in ("", lines[0].cells[AT + k]) for n, k in enumerate(ks)):
            add(PART + title, recalls)
        if interval := row.interval(name, ks):
            add(f"{PART}95 % interval", [f"{low:.2f}-{high:.2f}" for low, high in interval])
    for title, percent in row.shares.items():
        add(PART + title, [f"{percent:.2f}"])
    if row.published is not None:
        lines += _published(f"{PART}published", row.published, columns, sources, group)
        differences = dict(zip(RECALLS, row.differences, strict=True))
        add(f"{PART}difference", [f"{differences[k]:+.2f}" if k in differences else "" for k in ks])
    return lines


def _published(title, published, columns, sources, group, task=None):
    """The line of a Published, whose source is added to `sources`; none where no column has one of its recalls."""
    shown = {AT + k: _percent(recall) for k, recall in zip(RECALLS, published.recalls, strict=True)}
    cells = {name: text for name, text in shown.items() if text and name in columns}
    if not cells:
        return []
    sources.setdefault(published.note, published.source)
    return [Line(title, cells, group, task, list(sources).index(published.note) + 1)]


def _marked(lines, columns):
    """The lines with marks of the best and second recall of each task that has at least three rows; equal ones share a mark."""
    for task in {line.task for line in lines} - {None}:
        for column in (each for each in columns if each.startswith(AT)):
            of_task = [line for line in lines if line.task == task and line.cells.get(column)]
            values = sorted({float(line.cells[column].split()[0]) for line in of_task}, reverse=True)
            for line in of_task if len(of_task) > 2 else []:
                place = values.index(float(line.cells[column].split()[0])) + 1
                line.marks.update({column: place} if place in (BEST, SECOND) else {})
    return lines


def _percent(value):
    return "" if value is None else f"{value:.2f}"


def _cost_cells(costs):
    if costs["parameters"] is None:
        return {}
    parameters, gmac, descriptor, milliseconds = (costs[name] for name in COSTS)
    milliseconds = "" if milliseconds is None else three_digits(milliseconds)
    texts = f"{parameters / 1e6:.2f}", three_digits(gmac), f"{descriptor:,}", milliseconds
    return dict(zip(COST_COLUMNS, texts, strict=True))


def three_digits(number):
    """A number as text, rounded to three digits: "0.123", "12.3", "1,230"."""
    return f"{float(f'{number:.3g}'):,g}"


def as_text(tables):
    """Tables for a terminal."""
    return "\n\n".join("\n".join([table.title, table.formatted("simple"), *table.below]) for table in tables)


def as_markdown(tables, caption=None):
    """Tables in Markdown; the caption replaces their title."""
    blocks = []
    for table in tables:
        lines = []
        for line in table.lines:
            cells = (MARKDOWN[line.marks.get(name)].format(line.cells.get(name, "")) for name in table.columns)
            lines.append([_markdown(line.noted_title), *cells])
        shown = dataclasses.replace(table, columns={name: _markdown(text) for name, text in table.columns.items()})
        title = f"**{_markdown(captioned(table, caption))}** ({table.about[0].lower()}{table.about[1:]})"
        blocks += [title, shown.formatted("pipe", lines), "  \n".join(map(_markdown, table.below))]
    return "\n\n".join(filter(None, blocks)) + "\n"


def captioned(table, caption):
    """The title of a table, or the caption that replaces it, which says "toy town" if the title does."""
    toy = ", toy town" if ", toy town:" in table.title and "toy town" not in (caption or "") else ""
    return table.title if caption is None else caption + toy


def _markdown(text):
    """A text in which Markdown finds nothing to obey; an underscore inside a word is not."""
    return re.sub(r"([\\|*`<>\[\]~$&]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", text)


def as_csv(rows):
    """All rows as one CSV table with everything that is known of them, a line each, recalls in percent."""
    text, lines = io.StringIO(), []
    for row in rows:
        recalls = {}
        for name in row.recalls:
            means, ends = row.percents(name), row.interval(name) or [(None, None)] * len(RECALLS)
            recalls |= {name: [mean for mean, _ in means], f"{name}_deviation": [deviation for _, deviation in means]}
            recalls |= {f"{name}_low": [low for low, _ in ends], f"{name}_high": [high for _, high in ends]}
        if row.published:
            recalls |= {"published": row.published.recalls, "difference": row.differences}
        cells = {"title": row.title(), "seeds": " ".join(str(result.seed) for result in row.results)}
        cells |= {"tied_queries": " ".join(str(result.tied_queries) for result in row.results)}
        cells |= {"queries": row.results[0].queries, "references": row.results[0].references}
        cells |= {f"{name}@{k}": _percent(at) for name, four in recalls.items() for k, at in zip(RECALLS, four, strict=True)}
        cells |= {title: _percent(share) for title, share in row.shares.items()} | row.costs
        lines.append(dataclasses.asdict(row.kind) | cells | {"source": row.published and row.published.note})
    names = dict.fromkeys(name for line in lines for name in line)
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()
