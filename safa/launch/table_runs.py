"""The runs of a table: what is trained and tested, with which commands, and what of it is finished."""

import dataclasses
import os

from safa.launch.testing import testing_parser
from safa.launch.training import training_parser
from safa.report.epoch_lines import read_lines
from safa.report.result_file import read_result
from safa.runtime.command_line import parsed
from safa.runtime.errors import UserError
from safa.settings import NetworkConfig, RunConfig, Settings, TrainingConfig
from safa.training.run_folder import RunPaths, run_paths

FOR_PREPARATION = "data_dir", "prepared_dir"
FOR_CHECK = *FOR_PREPARATION, "act_data"


@dataclasses.dataclass(frozen=True)
class Run:
    """A row of the table with one seed.

    Attributes:
        settings: settings.Settings.
        paths: training.run_folder.RunPaths.
        log: file that its steps' output is appended to.
        train, test: commands, lists of arguments.
    """

    settings: Settings
    paths: RunPaths
    log: str
    train: list
    test: list

    def __str__(self):
        network = self.settings.network
        return f"{network.network_type} polar {network.polar} seed {self.settings.training.seed}"

    @property
    def epochs(self):
        """How many epochs are finished."""
        return min(len(read_lines(self.paths.own_csv)), self.settings.training.epochs)

    @property
    def is_trained(self):
        return os.path.exists(self.paths.final) and self.epochs == self.settings.training.epochs

    @property
    def is_tested(self):
        """Whether there is a result of this run's best checkpoint."""
        try:
            checkpoint = read_result(self.paths.json, "test again").checkpoint
            checkpoints = os.stat(f"{checkpoint}.index").st_mtime
            ours = os.path.dirname(os.path.abspath(checkpoint)) == os.path.abspath(self.paths.best)
            return ours and os.stat(self.paths.json).st_mtime >= checkpoints
        except (UserError, OSError, ValueError):  # the path that it names may be anything
            return False


def runs_of(kind, args, given, passed):
    """The Run of each seed, polar and row, the first seed's first.

    Args:
        kind: class of the dataset.
        args: parsed flags of reproduce.py.
        given: parsed training flags.
        passed: these as texts.
    """
    parser = testing_parser("", {"val": kind})
    names = {action.dest for action in parser._actions} - {"help", "network_type", "polar", "checkpoint", "seed"}
    names -= {field.name for field in dataclasses.fields(NetworkConfig)}  # the checkpoint's
    to_test = _flags(given, training_parser("", kind), names)
    runs = []
    for seed in dict.fromkeys(args.seeds):
        for polar in dict.fromkeys(args.polar):
            for row in dict.fromkeys(args.rows):
                network = dataclasses.replace(parsed(NetworkConfig, given), network_type=row, polar=polar)
                training = dataclasses.replace(parsed(TrainingConfig, given), seed=seed)
                paths = run_paths(given.model_dir, given.result_dir, kind.name, network, given.run, seed)
                which = ["--network_type", row, "--polar", str(polar), "--seed", str(seed)]
                log = os.path.join(os.path.dirname(paths.json), "logs", os.path.basename(paths.json).replace(".json", ".log"))
                commands = (
                    [f"train_{args.dataset}.py", *which, *passed],
                    [f"test_{args.dataset}.py", *which, "--checkpoint", "best", *to_test],
                )
                runs.append(Run(Settings(network, training, parsed(RunConfig, given)), paths, log, *commands))
    return runs


def _flags(given, parser, names):
    """Those of the given flags that are not at their defaults, as arguments for another script."""
    flags = []
    for name in sorted(names):
        value = getattr(given, name, None)
        if value != parser.get_default(name):
            flags += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    return flags


def data_steps_of(kind, args, given):
    """{what: command} of what comes before training; arguments as of `runs_of`."""
    parser = training_parser("", kind)
    for_preparation, for_check = (_flags(given, parser, names) for names in (FOR_PREPARATION, FOR_CHECK))
    return {
        "preparation": ["data_preparation.py", "--dataset", args.dataset, *for_preparation],
        "check": ["check_data.py", "--dataset", args.dataset, *for_check],
    }
