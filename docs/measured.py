"""What the pages of measurements share: results and their tables, the paper's claims, places, hours, date and machine."""

import contextlib
import datetime
import os
import pathlib
import shutil
import statistics

from safa.datasets.cvusa import CVUSA
from safa.datasets.dataset import TOY_NOTE
from safa.report.epoch_lines import find_runs
from safa.report.result_file import find_results
from safa.report.rows import collect
from safa.report.table_formats import as_markdown, tables_of
from safa.retrieval.confidence import paired_difference
from safa.runtime.files import read_json, write_whole

DOCS = os.path.dirname(os.path.abspath(__file__))
# (what, better row, other row): the paper's claims, as (network type, polar).
CLAIMS = (
    ("polar maps over aerial tiles, SAFA_8", ("SAFA_8", 1), ("SAFA_8", 0)),
    ("polar maps over aerial tiles, VGG_gp", ("VGG_gp", 1), ("VGG_gp", 0)),
    ("SAFA_8 over VGG_gp, polar maps", ("SAFA_8", 1), ("VGG_gp", 1)),
    ("SAFA_8 over VGG_gp, aerial tiles", ("SAFA_8", 0), ("VGG_gp", 0)),
    ("SAFA_8 over SAFA_1, polar maps", ("SAFA_8", 1), ("SAFA_1", 1)),
    ("SAFA_8 over SAFA_4, polar maps", ("SAFA_8", 1), ("SAFA_4", 1)),
)
HEADER = "| | dataset | R@1, mean | each seed | McNemar's p, each | all of one sign |\n| --- | --- | --- | --- | --- | --- |"


def rows_of(paths):
    """The rows of result files, as of `report.rows.collect`; prints what it leaves out."""
    rows, notes = collect(paths)
    print(*notes, sep="\n", end="\n" if notes else "")
    return rows


def tables(rows):
    """Markdown tables of such rows."""
    return as_markdown(tables_of(rows)).strip()


def claims(rows):
    """A Markdown table of the differences in R@1 that the paper claims, in points, by the seeds that both rows have.

    Rows that are missing are left out.
    """
    found = {
        (row.kind.dataset, (row.kind.network_type, row.kind.polar)): {result.seed: result for result in row.results}
        for row in rows
    }
    lines = [HEADER]
    for title, better, other in CLAIMS:
        for dataset in sorted({row.kind.dataset for row in rows}):
            one, two = (found.get((dataset, key), {}) for key in (other, better))
            pairs = [(one[seed].ranks["exact"] < 1, two[seed].ranks["exact"] < 1) for seed in sorted(one.keys() & two.keys())]
            if not pairs:
                continue
            differences = [paired_difference(*pair) for pair in pairs]
            points = [100 * each.difference for each in differences]
            shown = ", ".join(f"{point:+.1f}" for point in points)
            chances = ", ".join(f"{each.p_value:.1g}" if each.p_value else "< 1e-300" for each in differences)
            same = "" if len(points) == 1 else "yes" if min(points) > 0 or max(points) < 0 else "no"
            lines.append(f"| {title} | {dataset} | {statistics.fmean(points):+.1f} | {shown} | {chances} | {same} |")
    return "\n".join(lines) if len(lines) > 1 else "No two of these rows have been tested yet."


def hours(folder):
    """What the CSV files below a folder of results say that all epochs took."""
    return sum(float(line[-1]) for lines in find_runs([folder]).values() for line in lines) / 3600


def places(folder):
    """How many pairs each toy town below a folder has, in words."""
    town = read_json(os.path.join(folder, "Data", CVUSA.name, TOY_NOTE), dict, "render it again")
    return f"{town['train']:,} pairs for training and {town['test']:,} for testing each"


def date_and_machine(paths):
    """When, on what machines and devices some results were made, in words."""
    results = [read_json(path, dict, "test again") for path in paths]
    days = sorted({datetime.date.fromisoformat(result["session"]["started"][:10]) for result in results})
    machines = sorted({f"{result['session']['machine']}, on {result['device']}" for result in results})
    return f"{' to '.join(f'{day:%-d %B %Y}' for day in days[:: len(days) - 1 or 1])}: {'; '.join(machines)}"


def keep(folder, name):
    """Copy what a page is written from to docs/runs/NAME, for other machines: results, epochs, towns and steps of a folder."""
    source, kept = pathlib.Path(folder), pathlib.Path(DOCS, "runs", name)
    results = [str(source / "Result")]
    paths = [*find_results(results), *(f"{run}.csv" for run in find_runs(results))]
    for path in [*map(pathlib.Path, paths), *source.glob(f"Data/*/{TOY_NOTE}"), *source.glob("*.jsonl")]:
        target = kept / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(shutil.SameFileError):
            shutil.copyfile(path, target)


def write(name, content):
    """Write a file of docs/: a page or the bytes of a picture."""
    write_whole(os.path.join(DOCS, name), content.encode() if isinstance(content, str) else content)
