"""Which weights a test script tests, and what they were trained on."""

import os

from safa.datasets.registry import DATASETS
from safa.runtime.errors import UserError, first_few
from safa.settings import NetworkConfig
from safa.training.run_folder import BEST, given_settings, run_paths

LAST = "last"  # besides BEST: what --checkpoint takes for the run's own


def trained_on_dataset(note, source):
    """Name of the dataset that weights are of: as their note says, else as the folders above them are called; or None."""
    if note is not None and note.dataset is not None:
        return note.dataset
    names = {kind.name for kind in DATASETS.values()}
    return next((part for part in reversed(os.path.abspath(source).split(os.sep)) if part in names), None)


def _runs_beside(folder):
    """What other runs lie beside a folder, for a message; "" where there are none."""
    try:
        names = sorted(entry.name for entry in os.scandir(os.path.dirname(folder)) if entry.is_dir())
    except OSError:
        return ""
    return f" (there are {first_few(names)})" if names else ""


def tested_checkpoint(args, home):
    """Path of the checkpoint to test: the one that is named, the best or last of our training run, or the authors'."""
    if args.checkpoint not in (None, BEST, LAST):
        return args.checkpoint
    asked = NetworkConfig(**given_settings(args))
    paths = run_paths(args.model_dir, args.result_dir, home.name, asked, args.run, args.seed)
    ours = paths.folder if args.checkpoint == LAST else paths.best
    authors = os.path.join(args.model_dir, home.name, "Trained", "model.ckpt")
    if os.path.isdir(ours):
        return ours
    script = f"train_{home.name.lower()}.py"
    if args.checkpoint is not None:
        raise UserError(
            f"--checkpoint {args.checkpoint}: no training run of {asked} in {ours}; train it ({script}), "
            f"or name ./{args.checkpoint} for a file or folder of that name"
        )
    for flag, value in (("run", args.run), ("seed", args.seed or None)):
        if value is not None:
            raise UserError(
                f"--{flag} {value}: no training run of {asked} in {ours}{_runs_beside(paths.folder)}; train it ({script}), or "
                "name weights with --checkpoint"
            )
    if os.path.isdir(os.path.dirname(authors)):
        return authors
    raise UserError(
        f"no checkpoint of {asked}: neither ours in {ours} nor the authors' {authors}; train it "
        f"({script}), or name one with --checkpoint"
    )
