"""The paper's table of a dataset with one command: prepare and check the data, train and test every row, print the table.

The rows are the paper's ablation: VGG_gp, SAFA_1, SAFA_2, SAFA_4 and SAFA_8, with polar maps and without. Each step is a
process of its own with a log in Result/<DATASET>/logs/, so one that crashes does not end the others. The same command
again skips what is finished and goes on with what was stopped. All flags of the training script are taken too and passed
on, --epochs 10 for instance; its --help explains them. On one machine, with all of its GPUs.
Exit code 0: all rows are finished; 1: some failed, which are named; 2: wrong flags or data.
"""

import dataclasses
import datetime
import itertools
import os
import shlex
import subprocess
import sys
import time

from safa.datasets.dataset import AERIAL, POLAR
from safa.datasets.registry import DATASETS
from safa.launch.given_data import Folders, given_dataset
from safa.launch.testing import TestConfig
from safa.launch.training import check_training, training_parser
from safa.report.epoch_lines import read_lines
from safa.report.result_file import read_result
from safa.report.rows import NETWORKS, collect
from safa.report.table_files import write_tables
from safa.report.table_formats import as_text, tables_of
from safa.runtime.command_line import Parser, as_flags, at_least, parsed
from safa.runtime.errors import ROOT, Stopped, UserError, reported
from safa.runtime.interruption import StopRequest
from safa.settings import NetworkConfig, RunConfig, Settings, TrainingConfig, network_type_of
from safa.training.checkpoint_files import checkpoint_digest, find_checkpoint
from safa.training.run_folder import RunPaths, data_identity, has_checkpoints, run_paths

TRAINED = {name: kind for name, kind in DATASETS.items() if "train" in kind.splits}


def flags():
    """The script's flags; those of the training script come on top."""
    parser = Parser(__doc__)
    parser.add_argument("--dataset", required=True, choices=list(TRAINED), help="dataset of the table")
    rows = {"default": list(NETWORKS), "help": f"network types (default: {','.join(NETWORKS)}, the paper's)"}
    parser.add_argument("--rows", type=lambda text: list(map(network_type_of, text.split(","))), metavar="ROW,ROW", **rows)
    each = "the rows with each of these (default: {})"
    parser.add_argument("--polar", type=int, nargs="+", choices=(1, 0), default=[1, 0], help=each.format("1 0"))
    seed = at_least(int, 0, 2**31 - 1)
    parser.add_argument("--seeds", type=seed, nargs="+", default=[0], metavar="SEED", help=each.format(0))
    parser.add_argument("--dry_run", action="store_true", help="print the commands and run none of them")
    parser.add_argument("--ignore_problems", action="store_true", help="go on where check_data.py finds problems")
    return parser


@dataclasses.dataclass(frozen=True)
class TableRow:
    """A row of the table with one seed; `train` and `test` are commands, `queries` their number, None where it is not known."""

    name: str
    paths: RunPaths
    training: TrainingConfig
    queries: int | None
    train: list[str]
    test: list[str]

    @property
    def log(self):
        """File that both commands' output is appended to."""
        folder, name = os.path.split(self.paths.json)
        return os.path.join(folder, "logs", name.replace(".json", ".log"))

    @property
    def is_trained(self):
        """Whether the weights after the last epoch are there."""
        return os.path.exists(self.paths.final) and len(read_lines(self.paths.own_csv)) >= self.training.epochs

    @property
    def is_tested(self):
        """Whether there is a result of this run's best checkpoint on all queries, in its precision."""
        try:
            best, _ = find_checkpoint(self.paths.best)
            result = read_result(self.paths.json, "")
            is_whole = self.queries in (None, result.queries) and result.precision in (None, self.training.precision)
            return is_whole and result.checkpoint_digest == checkpoint_digest(best)
        except UserError:  # one of them is not there, or damaged
            return False

    @property
    def steps(self):
        """Both commands, and whether they are finished when one comes to them: training may find better weights to test."""
        yield self.train, self.is_trained
        yield self.test, self.is_tested


def main():
    args, passed = flags().parse_known_args()
    for flag in (word.partition("=")[0] for word in passed):
        if flag in ("--network_type", "--seed"):
            raise UserError(f"{flag}: set by this script for each row; use --rows, --polar, --seeds")
    kind = TRAINED[args.dataset]
    for script in f"train_{args.dataset}.py", f"test_{args.dataset}.py":
        if not os.path.exists(os.path.join(ROOT, script)):
            known = script.replace(args.dataset, "cvusa")
            remedy = f"copy {known} under this name, with {kind.__name__} of {kind.__module__} instead of CVUSA"
            raise UserError(f"{script}: not found; {remedy}")
    given = training_parser("", kind).parse_args(passed)
    folders = parsed(Folders, given)
    of_rows = itertools.product(*map(dict.fromkeys, (args.seeds, args.polar, args.rows)))
    data = {polar: listed_data(given_dataset(kind, folders), folders, polar) for polar in args.polar}
    rows = [table_row(args.dataset, kind, given, passed, data[polar], seed, polar, row) for seed, polar, row in of_rows]
    of_data = ["--dataset", args.dataset, *as_flags(Folders(folders.data_dir, folders.prepared_dir))]
    prepare = ["data_preparation.py", *of_data]
    check = ["check_data.py", *of_data, *as_flags(Folders(act_data=folders.act_data, labels=folders.labels))]
    if args.dry_run:
        steps = [(prepare, False), (check, False), *(step for row in rows for step in row.steps)]
        print(*(shown(command) + "  # finished" * is_finished for command, is_finished in steps), sep="\n")
        return 0
    waiting = [row for row in rows if not (row.is_trained and row.is_tested)]
    with StopRequest() as stop, stop.at_once():
        if waiting:
            provide_data(prepare, check, args.ignore_problems)
        failures = train_and_test(waiting, len(rows))
    results, notes = collect([row.paths.json for row in rows if os.path.exists(row.paths.json)])
    print(*notes, sep="\n", end="\n" * bool(notes))
    if results:
        tables = tables_of(results)
        print(as_text(tables))
        epochs = {row.name: lines for row in rows if (lines := read_lines(row.paths.own_csv))}
        target = os.path.join(folders.result_dir, kind.name, "_".join(filter(None, ("tables", folders.run))))
        print(f"\nwritten to {target}: {', '.join(write_tables(target, tables, results, runs=epochs))}", flush=True)
    print(*failures, sep="\n", end="\n" * bool(failures), file=sys.stderr)
    return 1 if failures else 0


def listed_data(dataset, folders, polar):
    """What a row's runs should be of (`run_folder.data_identity`); None where the lists do not tell."""
    if folders.skip_missing or dataset.polar_dir is None or not os.path.isdir(dataset.tile_dir):
        return None
    return data_identity(*(dataset.pairs(split, POLAR if polar else AERIAL) for split in ("train", "val")))


def table_row(dataset, kind, given, passed, data, seed, polar, network_type):
    """The TableRow of a dataset whose training gets flags: parsed and as words. Mistakes in both are found here.

    `data`: of `listed_data`: what was finished on other data, or with more epochs, is not this row.
    """
    network = dataclasses.replace(parsed(NetworkConfig, given), network_type=network_type, polar=polar)
    training = dataclasses.replace(parsed(TrainingConfig, given), seed=seed)
    folders, run = parsed(Folders, given), parsed(RunConfig, given)
    paths = run_paths(folders.model_dir, folders.result_dir, kind.name, network, folders.run, seed)
    check_training(Settings(network, training, run), paths.folder, data)
    if has_checkpoints(paths.folder) and (done := len(read_lines(paths.own_csv))) > training.epochs:
        more = f"more than --epochs {training.epochs}; raise it, or use another --run or --model_dir"
        raise UserError(f"{paths.folder}: holds {done} epochs, {more}")
    which = ["--network_type", network_type, "--polar", str(polar), "--seed", str(seed)]
    test = TestConfig("best", devices=run.devices, precision=training.precision)
    return TableRow(
        f"{network_type} polar {polar} seed {seed}",
        paths,
        training,
        data and data["val_pairs"],
        [f"train_{dataset}.py", *which, *passed],
        [f"test_{dataset}.py", *which, *as_flags(test), *as_flags(folders)],
    )


def provide_data(prepare, check, ignore_problems):
    """Prepare what is missing and check the data; both scripts show their own progress. Raises UserError if one fails."""
    for command in prepare, check:
        print(shown(command), flush=True)
        code = finish(command)
        is_about_data = code == 1 and command is check
        if code and not (is_about_data and ignore_problems):
            remedy = "; --ignore_problems goes on nevertheless" * is_about_data
            raise UserError(f"{command[0]} ended with exit code {code}, see above{remedy}")


def train_and_test(rows, total):
    """Train and test rows, the last ones of `total`; returns a line on each that failed."""
    failures, begin, before = [], time.monotonic(), total - len(rows)
    if before:
        print(f"{before} of {total} rows were finished before")
    for done, row in enumerate(rows):
        end = ""
        if done:
            left = datetime.timedelta(seconds=(time.monotonic() - begin) / done * (len(rows) - done))
            end = f", ends about {datetime.datetime.now() + left:%a %H:%M}"
        print(f"row {before + done + 1} of {total}{end}: {row.name}, see {row.log}", flush=True)
        if failure := finish_row(row):
            failures.append(failure)
            print(failure, flush=True)
    return failures


def finish_row(row):
    """Train and test a row; returns a line on what failed, or None."""
    os.makedirs(os.path.dirname(row.log), exist_ok=True)
    with open(row.log, "a+", errors="replace") as log:
        for command, is_finished in row.steps:
            if is_finished:
                continue
            print(f"$ {shown(command)}", file=log, flush=True)
            if code := finish(command, stdout=log, stderr=log):
                log.seek(0)
                last = log.read().strip().splitlines()[-1]
                return f"{row.name}: {command[0]} ended with exit code {code}: {last} ({row.log})"
    return None


def finish(command, **streams):
    """Run a script of this project to its end; returns its exit code.

    A signal is passed on, so training saves, and raised as Stopped when the script has ended.
    """
    argv = [sys.executable, os.path.join(ROOT, command[0]), *command[1:]]
    # In a session of its own, so Ctrl-C reaches it once, through this script.
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True, **streams) as process:
        try:
            return process.wait()
        except Stopped as stopped:
            process.send_signal(stopped.signal)
            process.wait()  # a second signal leaves here
            raise
        finally:
            process.kill()


def shown(command):
    """A command as one would type it."""
    return f"python {shlex.join(command)}"


if __name__ == "__main__":
    with reported():
        sys.exit(main())
