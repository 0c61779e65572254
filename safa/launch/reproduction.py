"""The paper's table of a dataset, from the data to the recalls: each step in a process of its own."""

import datetime
import os
import shlex
import subprocess
import sys
import time

from tqdm import tqdm

from safa.datasets.registry import DATASETS
from safa.launch.given_data import given_dataset
from safa.launch.table_runs import data_steps_of, runs_of
from safa.launch.training import check_training, training_parser
from safa.report.epoch_lines import read_lines
from safa.report.rows import NETWORKS, collect
from safa.report.table_files import write_tables
from safa.report.table_formats import as_text, tables_of
from safa.runtime.backend import importing_tensorflow
from safa.runtime.command_line import Parser, at_least, parsed
from safa.runtime.errors import ROOT, Stopped, UserError
from safa.runtime.folder_lock import open_lock
from safa.runtime.interruption import StopRequest
from safa.settings import NetworkConfig, Settings, TrainingConfig, network_type_of
from safa.training.run_folder import agree_with_earlier_run

TRAINED = {name: kind for name, kind in DATASETS.items() if "train" in kind.splits}
OWN = "--network_type", "--polar", "--seed"  # training flags that this script sets
POLL_SECONDS = 1.0  # between looks at the epochs of a training
LAST_LINES = 2000  # bytes of a log's end that are searched for the reason of a failure


def reproduction_parser(description):
    """The flags of reproduce.py; those of the training script come on top."""
    parser = Parser(description)
    parser.add_argument("--dataset", required=True, choices=list(TRAINED), help="whose table")
    parser.add_argument(
        "--rows",
        type=_rows,
        default=list(NETWORKS),
        metavar="ROW,ROW",
        help=f"network types (default: {','.join(NETWORKS)}, the paper's)",
    )
    parser.add_argument(
        "--polar", type=int, nargs="+", choices=(1, 0), default=[1, 0], help="the rows with each of these (default: 1 0)"
    )
    seeds = at_least(int, 0, 2**31 - 1)
    parser.add_argument(
        "--seeds", type=seeds, nargs="+", default=[0], metavar="SEED", help="the rows with each of these (default: 0)"
    )
    parser.add_argument(
        "--dry_run",
        action="store_true",
        help="print the commands and the hours that they will take, from a few measured steps; run none of them",
    )
    parser.add_argument("--ignore_problems", action="store_true", help="go on where check_data.py finds problems")
    return parser


def reproduce(description):
    """Parse the flags, check the data and prepare it, train and test row after row, print the table.

    Args:
        description: the script's, for --help.

    Returns:
        The script's exit code: 1 where a row failed.

    Raises:
        UserError: a flag, a folder or the data is wrong.
        Stopped: by a signal, which the running step answered.
    """
    args, passed = reproduction_parser(description).parse_known_args()
    given = _training_flags(args.dataset, passed)
    runs = runs_of(TRAINED[args.dataset], args, given, passed)
    for run in runs:  # all mistakes before the first step
        agree_with_earlier_run(run.paths.folder, run.settings.network, run.settings.training)
    data_steps = data_steps_of(TRAINED[args.dataset], args, given)
    if args.dry_run:
        _print_plan(args, given, data_steps, runs)
        return 0
    with StopRequest() as stop, stop.at_once():
        if not all(run.is_trained and run.is_tested for run in runs):
            _provide_data(data_steps, args, given)
        failures = _train_and_test(runs)
    rows, notes = collect([run.paths.json for run in runs if os.path.exists(run.paths.json)])
    print(*notes, sep="\n", end="\n" if notes else "")
    if rows:
        tables = tables_of(rows)
        print(as_text(tables))
        folder = os.path.join(os.path.dirname(runs[0].paths.json), "_".join(filter(None, ("tables", given.run))))
        print(f"\nwritten to {folder}: {', '.join(write_tables(folder, tables, rows, runs=_epochs(runs)))}", flush=True)
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


def _epochs(runs):
    return {str(run): lines for run in runs if (lines := read_lines(run.paths.own_csv))}


def _rows(text):
    return [network_type_of(name) for name in text.split(",")]


def _training_flags(dataset, passed):
    """The Namespace of the training flags that were passed, checked."""
    for flag in (text.partition("=")[0] for text in passed):
        if flag in OWN:
            raise UserError(f"{flag}: set by this script for each row; use {', '.join(('--rows', '--polar', '--seeds'))}")
    given = training_parser("", TRAINED[dataset]).parse_args(passed)
    check_training(Settings(*(parsed(kind, given) for kind in (NetworkConfig, TrainingConfig))))
    return given


def _provide_data(steps, args, given):
    """Prepare what is missing and check the data; the steps show their own progress."""
    dataset = given_dataset(TRAINED[args.dataset], given)
    for split in dataset.splits:  # lists that are missing, in a second
        dataset.pairs(split)
    for what, command in steps.items():
        print(f"{what}: {_shown(command)}", flush=True)
        code = _finish(command, None)
        if code and not (code == 1 and args.ignore_problems):
            remedy = "; --ignore_problems goes on nevertheless" if code == 1 else ""
            raise UserError(f"the {what} of the data ended with exit code {code}, see above{remedy}")


def _train_and_test(runs):
    """Train and test what is not finished; returns lines on those that failed."""
    failures = []
    total = sum(run.settings.training.epochs for run in runs)
    begin, before = time.monotonic(), sum(run.epochs for run in runs)
    with tqdm(total=total, initial=before, disable=None, bar_format="{desc} {bar}") as progress:

        def show(number, run, step):
            done = sum(each.epochs for each in runs)
            if step == "training":
                step = f"epoch {min(run.epochs + 1, run.settings.training.epochs)} of {run.settings.training.epochs}"
            text = f"row {number} of {len(runs)}, {run}: {step}"  # the end must be seen in 80 columns too
            if done > before:
                left = (time.monotonic() - begin) / (done - before) * (total - done)
                text += f", ends about {datetime.datetime.now() + datetime.timedelta(seconds=left):%a %H:%M}"
            progress.n = done
            progress.set_description_str(text)

        for number, run in enumerate(runs, 1):
            failure = _finish_run(run, lambda step, number=number, run=run: show(number, run, step))
            failures += [failure] if failure else []
            said = failure or f"{run}: finished, {run.paths.json}"
            tqdm.write(f"row {number} of {len(runs)}, {said}")
            sys.stdout.flush()
    return failures


def _finish_run(run, show):
    """Train and test a row where it is not finished; returns a line on what failed, or None."""
    for step, command, is_finished in (
        ("training", run.train, lambda: run.is_trained),
        ("test", run.test, lambda: run.is_tested),
    ):
        _wait_for_other(run, lambda step=step: show(step))
        if is_finished():
            continue
        os.makedirs(os.path.dirname(run.log), exist_ok=True)
        code = _finish(command, run.log, lambda step=step: show(step))
        if code or not is_finished():
            return f"{run}: {step} ended with exit code {code}: {_last_line(run.log)} ({run.log})"
    return None


def _wait_for_other(run, show):
    """Wait while another process trains this run: one that this script left when it was killed, for instance."""
    if not os.path.isdir(run.paths.folder):
        return
    with open_lock(run.paths.lock) as lock:
        waited = False
        while not lock.take_alone():
            if not waited:
                tqdm.write(f"{run.paths.folder}: another process is training there; waiting for it")
            waited = True
            show()
            time.sleep(POLL_SECONDS)


def _finish(command, log, show=lambda: None):
    """Run a script to its end and return its exit code; a signal is passed on to it.

    Args:
        command: file name of the script and its arguments.
        log: file that its output is appended to; None: it is shown.
        show: function that is called once in a while.
    """
    with open(log or os.devnull, "ab") as output:
        if log:
            output.write(f"$ {_shown(command)}\n".encode())
            output.flush()
        streams = {"stdout": output, "stderr": subprocess.STDOUT} if log else {}
        script, *arguments = command
        process = subprocess.Popen(
            [sys.executable, os.path.join(ROOT, script), *arguments],
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C reaches it once, through this script
            **streams,
        )
        try:
            while True:
                show()
                try:
                    return process.wait(POLL_SECONDS)
                except subprocess.TimeoutExpired:
                    pass
        except Stopped:
            _end(process)
            raise
        finally:
            if process.poll() is None:
                process.kill()


def _end(process):
    """Let a process save and end; a second signal ends it at once."""
    process.terminate()
    try:
        process.wait()
    except Stopped:
        process.terminate()
        process.wait()


def _last_line(path):
    """The last line of a log."""
    with open(path, "rb") as file:
        file.seek(max(0, os.path.getsize(path) - LAST_LINES))
        lines = file.read().decode(errors="replace").replace("\r", "\n").strip().splitlines()
    return lines[-1] if lines else "no output"


def _shown(command):
    return f"python {shlex.join(command)}"


def _print_plan(args, given, data_steps, runs):
    """Print all commands, what is finished of them, and the hours that the others will take."""
    for command in data_steps.values():
        print(_shown(command))
    for run in runs:
        for command, is_finished in ((run.train, run.is_trained), (run.test, run.is_tested)):
            print(f"{_shown(command)}{'  # finished' if is_finished else ''}", flush=True)
    with importing_tensorflow():
        from safa.training.pace import measure_pace
    counts = {split: _count(args, given, split) for split in ("train", "val")}
    print(", ".join(f"{split}: {count:,} pairs{source}" for split, (count, source) in counts.items()))
    train, val = (count for count, _ in counts.values())
    seconds = 0.0
    for polar in dict.fromkeys(args.polar):
        of_polar = [run for run in runs if run.settings.network.polar == polar]
        largest = max(of_polar, key=lambda run: run.settings.network.aggregation[1] or 0)  # the backbone takes nearly all
        pace = measure_pace(largest.settings)
        batch_size = largest.settings.training.batch_size
        epoch = train // batch_size * pace.step + val * pace.pair
        print(
            f"polar {polar}: {pace.step:.3g} s a step of {batch_size} pairs and {1000 * pace.pair:.3g} ms a pair described, "
            f"measured with {largest.settings.network.network_type} on {pace.device}; {epoch / 60:,.1f} minutes an epoch"
        )
        for run in of_polar:
            seconds += (run.settings.training.epochs - run.epochs) * epoch + (not run.is_tested) * val * pace.pair
    print(f"about {seconds / 3600:,.1f} hours for what is not finished, besides preparing and checking the data")


def _count(args, given, split):
    """How many pairs a split has: the list's, else the published number."""
    kind = TRAINED[args.dataset]
    try:
        return len(given_dataset(kind, given).pairs(split)), ""
    except UserError:
        return kind.published_counts[split], " (published; there is no list)"
