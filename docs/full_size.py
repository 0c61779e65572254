"""Writes docs/full_size.md and its curves from what `make full-size` trained so far: python -m docs.full_size FOLDER."""

import hashlib
import os
import shlex
import sys

from docs.measured import claims, date_and_machine, hours, keep, places, rows_of, tables, write
from safa.report.charts import training_curves
from safa.report.drawing import file_bytes
from safa.report.epoch_lines import find_runs
from safa.report.result_file import find_results
from safa.runtime.errors import reported
from safa.runtime.files import read_file, read_json

# Result files, without their ending, that `make full-size` makes.
RUNS = [f"CVUSA/{network}_polar_{polar}" for polar in (1, 0) for network in ("SAFA_8", "VGG_gp")]
RUNS += ["CVUSA/SAFA_8_polar_1_seed_1", "CVUSA/VGG_gp_polar_1_seed_1", "CVACT/SAFA_8_polar_1", "CVUSA/SAFA_8_polar_1_float32"]
TEXT = """# The paper's network and recipe on toy towns

Full VGG16 from ImageNet's weights, inputs of 112x616 pixels, dropout that keeps 0.8, Adam at 1e-5, batches of 32, soft-margin
triplets. Only the epochs differ from the paper's and, where a command says bfloat16, the precision. The images are toy towns
in the datasets' formats and sizes: {places}.
**These are not recalls on CVUSA or CVACT.**

Made by `make full-size` on {made}.
Its epochs took {hours:.1f} hours so far. Hours, and ms in the tables, include what else the machine did.

## Recalls

Only runs of the same number of epochs compare.

{tables}

![Loss and recall over the epochs](full_size.png)

## Epochs

Loss is the mean over the epoch's steps; hours include the validation. The run in float32 ends after two epochs. The others
are continued to eight by `make full-size`, to four by `make full-size EPOCHS=4`.

| run | epochs | loss of the first, last | R@1 after each epoch | hours |
| --- | ---: | --- | --- | ---: |
{epochs}

{missing}

## How far the paper's ordering shows

Difference of R@1 in points, seed by seed, and McNemar's exact p on the same queries.

{claims}

Runs of different numbers of epochs are not compared here; the R@1 after each epoch above shows them.

## What made them

{sessions}

| result file | SHA-256 |
| --- | --- |
{digests}
"""


def write_page(folder):
    """Write the page of the runs below FOLDER/Result, finished or not; it lists those that have not begun."""
    results = os.path.join(folder, "Result")
    runs = {os.path.relpath(path, results): lines for path, lines in find_runs([results]).items()}
    after = {}  # {number of epochs: paths of results}
    for path in find_results([results]):
        after.setdefault(len(runs.get(os.path.splitext(os.path.relpath(path, results))[0], [])), []).append(path)
    rows_after = {f"**After {count} epochs.**\n\n": rows_of(after[count]) for count in sorted(after, reverse=True)}
    tested = [each for each in RUNS if os.path.exists(_path(results, each))]
    unfinished = [f"`{each}`" + " (training)" * (each in runs) for each in RUNS if each not in tested]
    text = TEXT.format(
        places=places(folder),
        made=date_and_machine(_path(results, each) for each in tested),
        hours=hours(results),
        tables="\n\n".join(title + tables(rows) for title, rows in rows_after.items()),
        epochs="\n".join(_epochs(name, lines) for name, lines in runs.items()),
        missing=f"Not run to the end yet: {', '.join(unfinished)}." if unfinished else "All rows have a result.",
        claims="\n\n".join(title + claims(rows) for title, rows in rows_after.items() if len(rows) > 1),
        sessions="\n".join(_session(_path(results, each)) for each in tested),
        digests="\n".join(f"| `{each}.json` | `{_digest(_path(results, each))}` |" for each in tested),
    )
    write("full_size.png", file_bytes(training_curves(runs)))
    write("full_size.md", text)
    keep(folder, "full-size")


def _path(results, name):
    return os.path.join(results, f"{name}.json")


def _epochs(name, lines):
    recalls = ", ".join(f"{100 * float(line[2]):.1f}" for line in lines)
    taken = sum(float(line[-1]) for line in lines) / 3600
    return f"| {name} | {len(lines)} | {float(lines[0][1]):.3f}, {float(lines[-1][1]):.3f} | {recalls} | {taken:.1f} |"


def _session(path):
    """When, on what device and by which command a result was made, and by which commit."""
    result = read_json(path, dict, "test again")
    session = result["session"]
    command = shlex.join(os.path.basename(word) if os.path.isabs(word) else word for word in session["command"])
    return f"- `{command}`: {session['started'][:10]}, commit {str(session['git_commit'])[:12]}, on {result['device']}"


def _digest(path):
    return hashlib.sha256(read_file(path)).hexdigest()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with reported():
        write_page(sys.argv[1])
