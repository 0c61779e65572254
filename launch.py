"""What the training and the test scripts do before there is a network: flags, settings, and a check of the data.

TensorFlow is imported last, so that a mistake is reported within a second.
"""

from runtime.command_line import Parser, at_least
from runtime.errors import UserError, importing

import os

from datasets.checks import listing, outdated
from datasets.dataset import check_files, resolve_case
from datasets.preparation import polar_maps_are_stretched
from settings import (
    BEST,
    NetworkConfig,
    RunConfig,
    TrainingConfig,
    add_devices,
    add_network,
    add_precision,
    add_run,
    add_run_folders,
    add_training,
    agree_on_data,
    agree_with_earlier_run,
    checkpoint_network,
    data_identity,
    parsed,
    result_file,
    run_folder,
)
from training.checkpoint_files import find_checkpoint, use_checkpoint

LAST = "last"  # besides BEST: what --checkpoint takes for the run's own


def launch_training(description, dataset_class):
    """Parse the flags of a training script, check its data, train.

    Args:
        description: the script's, for --help.
        dataset_class: of dataset.Dataset.
    """
    parser = Parser(description)
    add_run_folders(parser, dataset_class.has_act_data)
    add_network(parser)
    add_training(parser)
    add_run(parser)
    args = parser.parse_args()
    network, training = parsed(NetworkConfig, args), parsed(TrainingConfig, args)
    if training.batch_hard_count > training.batch_size:
        raise UserError(
            f"--batch_hard_count {training.batch_hard_count}: more than the --batch_size {training.batch_size}; choose fewer"
        )
    if training.warmup_epochs >= training.epochs:
        raise UserError(f"--warmup_epochs {training.warmup_epochs:g}: not less than --epochs {training.epochs}; choose fewer")
    if training.continue_from is not None:
        if training.init != TrainingConfig.init:
            raise UserError("--continue_from takes all weights from its checkpoint; leave --init out")
        find_checkpoint(training.continue_from)
    elif training.init not in ("imagenet", "random"):
        find_checkpoint(training.init)
    dataset = _dataset(dataset_class, network, args)
    folder = run_folder(args.model_dir, dataset.name, network, args.run)
    agree_with_earlier_run(folder, network, training)
    train_pairs, val_pairs = (_checked_pairs(dataset, split, network, args) for split in ("train", "val"))
    if len(train_pairs) < training.batch_size:
        raise UserError(
            f"{dataset.name} train: {len(train_pairs)} pairs are less than a batch of "
            f"{training.batch_size}; use a smaller --batch_size"
        )
    agree_on_data(folder, data_identity(train_pairs))
    _note_findings(dataset, {"train": train_pairs, "val": val_pairs}, network.polar)

    with importing():
        from training.run import train
    train(
        network,
        training,
        parsed(RunConfig, args),
        train_pairs,
        val_pairs,
        folder,
        result_file(args.result_dir, dataset.name, network, "csv", args.run),
        os.path.join(dataset.prepared_dir, dataset.name, "cache"),
        dataset.negative_metres,
    )


def launch_testing(description, dataset_classes):
    """Parse the flags of a test script, check its data, test.

    Args:
        description: the script's, for --help.
        dataset_classes: {split: class of dataset.Dataset}; the first is the default. Networks are
            trained on the first.
    """
    parser = Parser(description)
    default_split = next(iter(dataset_classes))
    trained_on = dataset_classes[default_split]
    add_run_folders(parser, trained_on.has_act_data)
    if len(dataset_classes) > 1:
        parser.add_argument("--split", choices=list(dataset_classes), help="which pairs to test on")
    parser.set_defaults(split=default_split)
    parser.add_argument(
        "--checkpoint",
        metavar="{best,last,PATH}",
        help="weights to test. best: of the training run below --model_dir, those of the epoch with "
        "the best R@1 on the validation split, which is also the split tested on, as usual for "
        "these datasets. last: the run's newest. PATH: ours, the authors' or Keras's, or a folder "
        "whose newest are taken; ./last for one of that name (default: best where there is a run, "
        f"else the authors' in {trained_on.name}/Trained/model.ckpt below --model_dir)",
    )
    parser.add_argument(
        "--batch_size", type=at_least(int, 1), default=32, metavar="PAIRS", help="pairs at a time; does not change the result"
    )
    parser.add_argument(
        "--save_descriptors", metavar="FILE.npz", help="write ids, sat_descriptors and grd_descriptors to this file"
    )
    add_devices(parser)
    add_precision(parser)
    add_network(parser, from_checkpoint=True)
    args = parser.parse_args()
    if args.save_descriptors is not None:
        if not args.save_descriptors:
            raise UserError("--save_descriptors: name a file")
        folder = os.path.dirname(args.save_descriptors) or "."
        if os.path.isdir(args.save_descriptors) or not os.path.isdir(folder):
            raise UserError(
                f"--save_descriptors {args.save_descriptors}: is a folder, or its folder does not exist; name "
                "a file in an existing folder"
            )
    source = _tested_checkpoint(args, trained_on)
    network = use_checkpoint(source, lambda path, _: checkpoint_network(args, path))
    dataset = _dataset(dataset_classes[args.split], network, args)
    pairs = _checked_pairs(dataset, args.split, network, args)
    _note_findings(dataset, {args.split: pairs}, network.polar)
    json_path = result_file(args.result_dir, dataset.name, network, "json", args.run)
    os.makedirs(os.path.dirname(json_path), exist_ok=True)

    with importing():
        from runtime.distribution import Distribution, understood

        import spatial_net
        from retrieval import evaluation
        from training import checkpoints
    distribution = Distribution(args.devices, args.precision)
    with understood(distribution, "a smaller --batch_size"):
        with distribution.strategy.scope():
            model = spatial_net.network(network, precision=args.precision)

        def load(path, kind):
            return path, checkpoints.load_weights(model, path, kind, network)

        path, aside = use_checkpoint(source, load)
        distribution.share_chiefs_values(list(checkpoints.network_variables(model).values()))
        if distribution.is_chief:
            print(f"checkpoint: {path}", flush=True)
            checkpoints.print_left_aside(path, aside)
        evaluation.test(
            evaluation.Describer(model, distribution),
            pairs,
            network,
            path,
            args.batch_size,
            json_path,
            args.save_descriptors,
            hit_metres=dataset.hit_metres,
            precision=args.precision,
        )


def _dataset(dataset_class, network, args):
    act_data = {"act_data": args.act_data} if "act_data" in args else {}
    dataset = dataset_class(args.data_dir, args.prepared_dir, **act_data)
    if network.polar and not polar_maps_are_stretched(dataset.polar_dir):
        print(f"{dataset.polar_dir}: polar maps without the min-max stretch, unlike the paper's", flush=True)
    return dataset


def _checked_pairs(dataset, split, network, args):
    return check_files(dataset.pairs(split, network.polar), dataset, network.sat_shape, network.grd_shape, args.skip_missing)


def _note_findings(dataset, splits, polar):
    """Say what check_data.py would, as far as it takes no time."""
    findings = listing(dataset, splits)
    if polar:
        findings += [
            finding
            for split, pairs in splits.items()
            for finding in outdated(split, zip(resolve_case(pairs.tile_paths), pairs.sat_paths, strict=True))
        ]
    for finding in findings:
        print(f"{dataset.name} {finding.split}: {finding.count:,} {finding.text}", flush=True)
    if any(finding.problem for finding in findings):
        print(f"check_data.py --dataset {dataset.name.lower()} says more", flush=True)


def _tested_checkpoint(args, trained_on):
    """Path of the checkpoint to test: the one that is named, the best or last of our training run, or the authors'."""
    if args.checkpoint not in (None, BEST, LAST):
        return args.checkpoint
    asked = NetworkConfig(args.network_type, args.polar)
    run = run_folder(args.model_dir, trained_on.name, asked, args.run)
    ours = run if args.checkpoint == LAST else os.path.join(run, BEST)
    authors = os.path.join(args.model_dir, trained_on.name, "Trained", "model.ckpt")
    if os.path.isdir(ours):
        return ours
    script = f"train_{trained_on.name.lower()}.py"
    if args.checkpoint is not None:
        raise UserError(
            f"--checkpoint {args.checkpoint}: no training run of {asked} in {ours}; train it ({script}), "
            f"or name ./{args.checkpoint} for a file or folder of that name"
        )
    if args.run is not None:
        raise UserError(
            f"--run {args.run}: no training run of {asked} in {ours}; train it ({script}), or name weights with --checkpoint"
        )
    if os.path.isdir(os.path.dirname(authors)):
        return authors
    raise UserError(
        f"no checkpoint of {asked}: neither ours in {ours} nor the authors' {authors}; train it "
        f"({script}), or name one with --checkpoint"
    )
