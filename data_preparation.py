"""Prepare the datasets' images for the network: polar maps of the aerial tiles, and CVACT's street views.

Reads and writes below --data_dir (README, "Data"). Finished files are skipped, so a run that was stopped goes on where it
was. An image that cannot be used is named, the others are prepared, and the exit code is 1.
"""

import os
import sys

from safa.datasets.preparation import plan_preparation, prepare
from safa.datasets.registry import DATASETS
from safa.launch.given_data import Folders
from safa.runtime.command_line import WORKERS, Parser, add_settings, at_least
from safa.runtime.errors import UserError, reported
from safa.runtime.worker_pool import available_cores


def flags():
    """The script's flags."""
    parser = Parser(__doc__)
    parser.add_argument("--dataset", default="all", choices=[*DATASETS, "all"], help="dataset; all: every one that is there")
    add_settings(parser, Folders, ["data_dir", "prepared_dir"])
    parser.add_argument("--workers", type=at_least(int, 1), default=available_cores(), help=WORKERS)
    parser.add_argument("--overwrite", action="store_true", help="prepare finished files again")
    parser.add_argument(
        "--no_stretch", action="store_true", help="leave out the min-max stretch of the polar maps (the paper's have it)"
    )
    return parser


def main(argv=None):
    args = flags().parse_args(argv)
    kinds = DATASETS.values() if args.dataset == "all" else [DATASETS[args.dataset]]
    known = [kind(args.data_dir, args.prepared_dir) for kind in kinds]
    datasets = [dataset for dataset in known if args.dataset != "all" or os.path.isdir(dataset.tile_dir)]
    if not datasets:
        folders = ", ".join(dict.fromkeys(dataset.tile_dir for dataset in known))
        raise UserError(f"{args.data_dir}: no dataset in it (looked for {folders}); {known[0].remedy()}")
    plans = []
    jobs = dict.fromkeys(job for dataset in datasets for job in dataset.preparations())  # datasets may share some
    for job in jobs:  # all mistakes before the first file
        plans.append(plan_preparation(job))
        print(plans[-1], flush=True)
    if not plans:
        print("these datasets have nothing to prepare")
    failures = []
    for plan in plans:
        line, failed = prepare(plan, not args.no_stretch, args.workers, args.overwrite)
        print(f"  {plan.job.target_dir}: {line}", flush=True)
        failures += failed
    if failures:
        print(f"{len(failures):,} images could not be prepared:", *failures, sep="\n  ", file=sys.stderr)
        print("replace them and run the same command again", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    with reported():
        sys.exit(main())
