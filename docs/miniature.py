"""Writes docs/miniature.md, the paper's table in miniature, from what `make tables` trained; and the data of its control.

python -m docs.miniature shuffle DATA TARGET: CVUSA's toy town with panoramas that belong to other tiles, for training.
python -m docs.miniature page FOLDER: the page and its curves.
"""

import os
import random
import sys

from docs.measured import claims, date_and_machine, hours, keep, places, rows_of, tables, write
from safa.datasets.cvusa import CVUSA
from safa.report.charts import recall_figure
from safa.report.drawing import file_bytes
from safa.report.result_file import find_results
from safa.runtime.errors import reported
from safa.runtime.files import read_file, write_whole

CONTROLS = {"shuffled": "trained on panoramas of other places", "untrained": "untrained"}
TEXT = """# The paper's table in miniature

The paper's ablation on toy towns in both datasets' formats: {places}.
Images have 56x308 pixels (aerial tiles 128x128), networks a sixteenth of VGG16's channels and random starting weights. They
train for 3 epochs of batches of 8, at a learning rate of 1e-3, with moving averages of the weights. All rows have the same
settings and seeds. **These are not recalls on CVUSA or CVACT.** They show that the whole pipeline learns, and which of the
paper's differences appear at this size.

Made by `make tables` on {made}. Training took {hours:.1f} hours in all.

## Recalls

Mean and standard deviation over seeds {seeds}; ms: milliseconds a pair of descriptors took on that machine, beside other work.

{tables}

![Curves of recall@K](miniature.png)

## What appears of the paper's ordering

Difference of R@1 in points, seed by seed, and McNemar's exact p.

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
    for split in CVUSA.splits:
        name = os.path.join("splits", f"{split}-19zl.csv")
        rows = [line.split(",") for line in read_file(os.path.join(source, name)).decode().splitlines()]
        panoramas = [row[1] for row in rows]
        if split == "train":
            random.Random(0).shuffle(panoramas)
        lines = [f"{tile},{panorama},{other}\n" for (tile, _, other), panorama in zip(rows, panoramas, strict=True)]
        write_whole(os.path.join(made, name), "".join(lines).encode())


def write_page(folder):
    """Write docs/miniature.md and docs/miniature.png from the results below a folder."""
    results = find_results([os.path.join(folder, "Result")])
    rows = rows_of(results)
    table_rows = [row for row in rows if row.kind.run is None]
    write("miniature.png", file_bytes(recall_figure(table_rows, {})))
    controls = {row.kind.run: row for row in rows if row.kind.run in CONTROLS}
    count = table_rows[0].results[0].references
    text = TEXT.format(
        places=places(folder),
        made=date_and_machine(results),
        hours=hours(os.path.join(folder, "Result")),
        seeds=", ".join(str(result.seed) for result in table_rows[0].results),
        tables=tables(table_rows),
        claims=claims(table_rows),
        chance=100 / count,
        chance_percent=100 * (count // 100) / count,
        controls="\n".join(
            f"| {title} | " + " | ".join(f"{mean:.2f}" for mean, _ in controls[name].percents()) + " |"
            for name, title in CONTROLS.items()
        ),
    )
    write("miniature.md", text)
    keep(folder, "miniature")


if __name__ == "__main__":
    if len(sys.argv) == 4 and sys.argv[1] == "shuffle":
        shuffle(*sys.argv[2:])
    elif len(sys.argv) == 3 and sys.argv[1] == "page":
        with reported():
            write_page(sys.argv[2])
    else:
        sys.exit(__doc__)
