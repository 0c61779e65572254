"""Writes docs/miniature.md, the paper's table in miniature, from what `make tables` trained; and the data of its control.

python -m docs.miniature shuffle DATA TARGET: CVUSA's toy town with panoramas that belong to other tiles, for training.
python -m docs.miniature page FOLDER: the page and its curves.
"""

import argparse
import csv
import datetime
import glob
import os
import platform
import random
import re
import statistics

from safa.datasets.cvusa import CVUSA
from safa.report.charts import recall_figure
from safa.report.drawing import file_bytes
from safa.report.result_file import find_results
from safa.report.rows import collect
from safa.report.table_formats import as_markdown, tables_of
from safa.runtime.files import write_whole
from safa.runtime.worker_pool import available_cores

DOCS = os.path.dirname(os.path.abspath(__file__))
CONTROLS = {"shuffled": "trained on panoramas of other places", "untrained": "untrained"}
# (what, better row, other row): the paper's claims, as (network type, polar).
CLAIMS = (
    ("polar maps over aerial tiles, SAFA_8", ("SAFA_8", 1), ("SAFA_8", 0)),
    ("polar maps over aerial tiles, VGG_gp", ("VGG_gp", 1), ("VGG_gp", 0)),
    ("SAFA_8 over VGG_gp, polar maps", ("SAFA_8", 1), ("VGG_gp", 1)),
    ("SAFA_8 over VGG_gp, aerial tiles", ("SAFA_8", 0), ("VGG_gp", 0)),
    ("SAFA_8 over SAFA_1, polar maps", ("SAFA_8", 1), ("SAFA_1", 1)),
    ("SAFA_8 over SAFA_4, polar maps", ("SAFA_8", 1), ("SAFA_4", 1)),
)
TEXT = """# The paper's table in miniature

The paper's ablation on toy towns in both datasets' formats: {train:,} pairs for training and {test:,} for testing each,
images of 56x308 pixels (aerial tiles 128x128), a sixteenth of VGG16's channels, random starting weights, 3 epochs of
batches of 8, learning rate 1e-3, moving averages of the weights. All rows have the same settings and seeds. **These are
not recalls on CVUSA or CVACT.** They show that the whole pipeline learns, and which of the paper's differences appear at
this size.

One learning rate serves all rows. Half and twice of it were tried with one seed, two epochs and 3,000 pairs: R@1 of VGG_gp with
polar maps was 18.0 and 24.0 (21.0 at 1e-3), of SAFA_8 without 12.8 and 10.8 (5.2). Neither is best for both.

Made by `make tables` on {date}: {machine}. Training took {hours:.1f} hours in all.

## Recalls

Mean and standard deviation over seeds {seeds}; ms: milliseconds a pair of descriptors took on that machine, beside other work.

{tables}

![Curves of recall@K]({picture})

## What appears of the paper's ordering

Difference of R@1 in points, seed by seed.

| | dataset | mean | each seed | all of one sign |
| --- | --- | --- | --- | --- |
{claims}

## Controls

SAFA_8, polar, on CVUSA's town. Chance is R@1 {chance:.2f} and R@1% {chance_percent:.2f}.

| | R@1 | R@5 | R@10 | R@1% |
| --- | --- | --- | --- | --- |
{controls}
"""


def shuffle(data_dir, target):
    """Link a toy town's images and write its lists, with the training panoramas in another order.

    Args:
        data_dir: folder of CVUSA's toy town, prepared.
        target: folder for the links and lists; one that is there is left.
    """
    source, made = (os.path.join(os.path.abspath(each), CVUSA.name) for each in (data_dir, target))
    os.makedirs(os.path.join(made, "splits"), exist_ok=True)
    for name in os.listdir(source):
        if name != "splits" and not os.path.lexists(os.path.join(made, name)):
            os.symlink(os.path.join(source, name), os.path.join(made, name))
    for path in glob.glob(os.path.join(source, "splits", "*.csv")):
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
        if os.path.basename(path).startswith("train"):
            panoramas = [row[1] for row in rows]
            random.Random(0).shuffle(panoramas)
            rows = [[row[0], panorama, *row[2:]] for row, panorama in zip(rows, panoramas, strict=True)]
        text = "".join(",".join(row) + "\n" for row in rows)
        write_whole(os.path.join(made, "splits", os.path.basename(path)), text.encode())


def write_page(folder):
    """Write docs/miniature.md and docs/miniature.png from the results below a folder."""
    rows, notes = collect(find_results([os.path.join(folder, "Result")]))
    print(*notes, sep="\n", end="\n" if notes else "")
    table_rows = [row for row in rows if row.kind.run is None]
    write_whole(os.path.join(DOCS, "miniature.png"), file_bytes(recall_figure(table_rows, {})))
    controls = {row.kind.run: row for row in rows if row.kind.run in CONTROLS}
    count = table_rows[0].results[0].references
    text = TEXT.format(
        train=2500,
        test=table_rows[0].results[0].queries,
        date=f"{datetime.date.today():%-d %B %Y}",
        machine=_machine(),
        hours=_hours(folder),
        seeds=", ".join(str(result.seed) for result in table_rows[0].results),
        tables=as_markdown(tables_of(table_rows)).strip(),
        picture="miniature.png",
        claims="\n".join(_claims(table_rows)),
        chance=100 / count,
        chance_percent=100 * (count // 100) / count,
        controls="\n".join(
            f"| {title} | " + " | ".join(f"{mean:.2f}" for mean, _ in controls[name].percents()) + " |"
            for name, title in CONTROLS.items()
        ),
    )
    write_whole(os.path.join(DOCS, "miniature.md"), text.encode())


def _claims(rows):
    """Lines on the differences that the paper claims."""
    found = {(row.kind.dataset, (row.kind.network_type, row.kind.polar)): row.results for row in rows}
    for title, better, other in CLAIMS:
        for dataset in sorted({row.kind.dataset for row in rows}):
            pairs = zip(found[dataset, better], found[dataset, other], strict=True)
            points = [100 * (one.recalls["recall"]["1"] - two.recalls["recall"]["1"]) for one, two in pairs]
            each = ", ".join(f"{point:+.1f}" for point in points)
            same = "yes" if min(points) > 0 or max(points) < 0 else "no"
            yield f"| {title} | {dataset} | {statistics.fmean(points):+.1f} | {each} | {same} |"


def _hours(folder):
    """What the CSV files say that all epochs took."""
    seconds = 0.0
    for path in glob.glob(os.path.join(folder, "Result", "*", "*.csv")):
        with open(path, newline="", encoding="utf-8") as file:
            seconds += sum(float(row["seconds"]) for row in csv.DictReader(file))
    return seconds / 3600


def _machine():
    """Processor and cores of this machine, in words."""
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            cpuinfo = file.read()
        model = re.search(r"model name\s*: (.*)", cpuinfo)[1]
        model += " with AVX-512" if "avx512f" in cpuinfo else " with AVX2" if " avx2 " in cpuinfo else ""
    except (OSError, TypeError):
        pass
    return f"{available_cores()} cores of {model}, no GPU"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    steps = parser.add_subparsers(dest="step", required=True)
    of_data = steps.add_parser("shuffle")
    of_data.add_argument("data_dir")
    of_data.add_argument("target")
    steps.add_parser("page").add_argument("folder")
    args = parser.parse_args()
    if args.step == "shuffle":
        shuffle(args.data_dir, args.target)
    else:
        write_page(args.folder)
