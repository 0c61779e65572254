"""A training script's flags and its course: settings, a check of the data, training.

TensorFlow is imported last: a mistake is reported within a second.
"""

import argparse
import os

from safa.datasets.panorama_views import check_turns, kept_columns
from safa.launch.given_data import Folders, add_run_folders, checked_pairs, findings_of, given_dataset
from safa.runtime.backend import importing_tensorflow
from safa.runtime.cluster import say
from safa.runtime.command_line import Parser, add_settings, parsed
from safa.runtime.errors import UserError, reported
from safa.settings import NetworkConfig, RunConfig, Settings, TrainingConfig
from safa.training.checkpoint_files import find_checkpoint
from safa.training.run_folder import agree_with_earlier_run, data_identity, has_checkpoints, run_paths


def training_parser(description, dataset_class):
    """The flags of a training script; arguments as of `launch_training`."""
    parser = Parser(description)
    add_run_folders(parser, dataset_class)
    add_settings(parser.add_argument_group("network"), NetworkConfig)
    add_settings(parser.add_argument_group("training"), TrainingConfig)
    add_settings(parser.add_argument_group("run", "may change when a stopped run continues"), RunConfig)
    parser.add_argument("--start_epoch", type=_needless, help=argparse.SUPPRESS)  # of the authors' scripts
    return parser


def _needless(text):
    raise argparse.ArgumentTypeError("the same command continues from the last saved step; leave it out")


@reported()
def launch_training(description, dataset_class):
    """Parse the flags of a training script, check its data, train. A mistake ends the script as of `reported`.

    `description`: the script's, for --help. `dataset_class`: of datasets.dataset.Dataset.
    """
    args = training_parser(description, dataset_class).parse_args()
    folders, *configs = (parsed(kind, args) for kind in (Folders, NetworkConfig, TrainingConfig, RunConfig))
    settings = Settings(*configs)
    check_turns(dataset_class, settings.training, ("train_fov", "random_heading", "rotate_pairs"))
    dataset = given_dataset(dataset_class, folders)
    network, training = settings.network, settings.training
    paths = run_paths(folders.model_dir, folders.result_dir, dataset.name, network, folders.run, training.seed)
    check_training(settings, paths.folder)
    train_pairs, val_pairs = (checked_pairs(dataset, split, network, folders) for split in ("train", "val"))
    if len(train_pairs) < training.batch_size:
        what = f"{train_pairs.name}: {len(train_pairs)} pairs are less than a batch of {training.batch_size}"
        raise UserError(f"{what}; use a smaller --batch_size")
    agree_with_earlier_run(paths.folder, network, training, data_identity(train_pairs, val_pairs))
    say(*findings_of({"train": train_pairs, "val": val_pairs}))
    if settings.run.cache == "memory":
        check_cache(network, train_pairs, val_pairs)
    with importing_tensorflow():
        from safa.training.train import train
    train(settings, train_pairs, val_pairs, paths)


def check_cache(network, *splits):
    """Refuse to keep the decoded images of Pairs in memory where this machine has less."""
    sat, grd = (3 * height * width for height, width in (network.sat_shape, network.grd_shape))
    need = sum(len(pairs.sat_paths) * sat + len(pairs.grd_paths) * grd for pairs in splits)
    if need > (have := os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")):
        raise UserError(f"--cache memory: images of {need / 1e9:.1f} GB, and this machine has {have / 1e9:.1f}; leave it out")


def check_training(settings, folder, data=None):
    """Refuse settings that contradict each other or the run in a folder (`agree_with_earlier_run`), and absent weights."""
    training = settings.training
    if not kept_columns(training.train_fov, settings.network.width):
        raise UserError(f"--train_fov {training.train_fov}: less than a column of {settings.network.width}; use a larger one")
    if training.batch_hard_count > training.batch_size:
        raise UserError(f"--batch_hard_count {training.batch_hard_count}: more than --batch_size {training.batch_size}")
    if training.batch_hard_count and training.loss != TrainingConfig.loss:
        raise UserError(f"--batch_hard_count: only --loss {TrainingConfig.loss} takes it; leave it out")
    if training.warmup_epochs >= training.epochs:
        raise UserError(f"--warmup_epochs {training.warmup_epochs:g}: not less than --epochs {training.epochs}; choose fewer")
    if training.continue_from is not None and (training.init != TrainingConfig.init or training.warmup_epochs):
        raise UserError("--continue_from takes weights and Adam's step from its file; leave --init and --warmup_epochs out")
    agree_with_earlier_run(folder, settings.network, training, data)
    start = training.continue_from or training.init
    if start not in ("default", "imagenet", "random") and not has_checkpoints(folder):  # a run that goes on needs it no more
        find_checkpoint(start)
