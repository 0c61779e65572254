"""Measures the steps of `make whole` and writes docs/whole.md from them and from their results.

python -m docs.whole step FOLDER NAME WORDS...: python WORDS, a step that is skipped if it was finished before.
python -m docs.whole page FOLDER...: the page, of the folders of both datasets.
"""

import dataclasses
import json
import os
import resource
import shlex
import signal
import subprocess
import sys
import time

from docs.measured import claims, date_and_machine, keep, rows_of, tables, write
from safa.report.result_file import find_results

STEPS = "steps.jsonl"  # in a dataset's folder: a line for each time that a step ran
TEXT = """# The datasets' whole count of places

Toy towns have as many places as the datasets and images of their sizes, unless a command names others. The network is the
demos'. **These are not recalls on CVUSA or CVACT.** They show what the pipeline takes at the datasets' count, and what a
network that small learns from so many places.

Made by {targets} on {made}.

[`docs/runs/`](runs) keeps the result files. Minutes, and ms in the tables, include what else the machine did. CPU minutes are
of all the step's processes, GB is the largest memory of one of them. A step that was stopped and continued counts in full.

{steps}

{tables}

## What appears of the paper's ordering

`make whole-table` trains the other rows of the paper's table; those that are missing above were not trained.
Difference of R@1 in points, and McNemar's exact p.

{claims}
"""


@dataclasses.dataclass(frozen=True)
class StepRun:
    """One time that a step ran: its command, how long, how much memory, and the exit code."""

    name: str
    command: list[str]
    seconds: float
    cpu_seconds: float
    gigabytes: float
    code: int


def run_step(folder, name, words):
    """Run a step, unless the same command was finished before and no step before it has run since; returns its exit code."""
    path, runs = os.path.join(folder, STEPS), step_runs(folder)
    names = [run.name for run in runs]
    finished = [number for number, run in enumerate(runs) if run.code == 0 and run.command == words]
    if finished and set(names[: names.index(name)]).isdisjoint(names[finished[-1] :]):
        print(f"{name}: was finished before")
        return 0
    os.makedirs(folder, exist_ok=True)
    begin = time.monotonic()
    with subprocess.Popen([sys.executable, *words]) as process:
        signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C reaches the step too, which saves before it ends
        signal.signal(signal.SIGTERM, lambda number, _: process.send_signal(number))
        code = process.wait()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    gigabytes = used.ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6)
    run = StepRun(name, words, time.monotonic() - begin, used.ru_utime + used.ru_stime, gigabytes, code)
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(dataclasses.asdict(run)) + "\n")
    print(f"{name}: {run.seconds / 60:.1f} min, {run.cpu_seconds / 60:.1f} min of CPU, {gigabytes:.1f} GB", flush=True)
    return code


def step_runs(folder):
    """The StepRuns of a dataset's folder, in their order."""
    path = os.path.join(folder, STEPS)
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        return [StepRun(**json.loads(line)) for line in file]


def write_page(folders):
    """Write docs/whole.md from the steps and results below some folders."""
    results = find_results([os.path.join(folder, "Result") for folder in folders])
    rows = rows_of(results)
    text = TEXT.format(
        targets=" and ".join(f"`make whole{'-cvact' * ('cvact' in folder)}`" for folder in folders),
        made=date_and_machine(results),
        steps="\n\n".join(_steps_table(folder) for folder in folders),
        tables=tables(rows),
        claims=claims(rows),
    )
    write("whole.md", text)
    for folder in folders:
        keep(folder, os.path.join("whole", os.path.basename(os.path.normpath(folder))))


def _steps_table(folder):
    """The steps of a dataset as a Markdown table, each with its command."""
    lines = [
        f"**{os.path.basename(os.path.normpath(folder)).upper()}**",
        "",
        "| step | command | minutes | CPU minutes | GB |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    runs = step_runs(folder)
    for command in {run.name: run.command for run in runs if run.code == 0}.values():
        of_step = [run for run in runs if run.command == command]
        minutes, cpu = (sum(getattr(run, name) for run in of_step) / 60 for name in ("seconds", "cpu_seconds"))
        again = f", in {len(of_step)} runs" if len(of_step) > 1 else ""
        memory = max(run.gigabytes for run in of_step)
        shown = f"python {shlex.join(command)}"
        lines.append(f"| {of_step[0].name}{again} | `{shown}` | {minutes:.1f} | {cpu:.1f} | {memory:.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    if len(sys.argv) > 4 and sys.argv[1] == "step":
        sys.exit(run_step(sys.argv[2], sys.argv[3], sys.argv[4:]))
    elif len(sys.argv) > 2 and sys.argv[1] == "page":
        write_page(sys.argv[2:])
    else:
        sys.exit(__doc__)
