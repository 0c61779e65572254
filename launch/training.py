"""What the training and the test scripts do before there is a network: flags, settings, and a check of the data.

TensorFlow is imported last: a mistake is reported within a second.
"""

from runtime.cluster import is_chief
from runtime.command_line import Parser, add_settings, at_least, check_output, parsed
from runtime.errors import UserError, importing
from runtime.files import write_whole

import json
import os
import time

from datasets.checks import check_lists, outdated
from datasets.dataset import POLAR
from datasets.file_checks import check_files, resolve_case
from datasets.preparation import polar_maps_are_stretched
from report.published import published_row
from report.tables import recall_table
from settings import NetworkConfig, RunConfig, Settings, TrainingConfig, add_network, add_run_folders, add_training
from training.checkpoint_files import find_checkpoint, use_checkpoint
from training.run_folder import BEST, agree_on_data, agree_with_earlier_run, checkpoint_network, data_identity, run_paths

LAST = "last"  # besides BEST: what --checkpoint takes for the run's own


def training_parser(description, dataset_class):
    """The flags of a training script; arguments as of `launch_training`."""
    parser = Parser(description)
    add_run_folders(parser, dataset_class.has_act_data)
    add_network(parser)
    add_training(parser)
    return parser


def launch_training(description, dataset_class):
    """Parse the flags of a training script, check its data, train.

    Args:
        description: the script's, for --help.
        dataset_class: of datasets.dataset.Dataset.
    """
    args = training_parser(description, dataset_class).parse_args()
    settings = Settings(parsed(NetworkConfig, args), parsed(TrainingConfig, args), parsed(RunConfig, args))
    _check_training(settings.training)
    dataset = _dataset(dataset_class, args)
    paths = run_paths(args.model_dir, args.result_dir, dataset.name, settings.network, args.run)
    agree_with_earlier_run(paths.folder, settings.network, settings.training)
    train_pairs, val_pairs = (_checked_pairs(dataset, split, settings.network, args) for split in ("train", "val"))
    batch_size = settings.training.batch_size
    if len(train_pairs) < batch_size:
        raise UserError(
            f"{train_pairs.name}: {len(train_pairs)} pairs are less than a batch of {batch_size}; use a smaller --batch_size"
        )
    agree_on_data(paths.folder, data_identity(train_pairs))
    _say(*_findings({"train": train_pairs, "val": val_pairs}))
    with importing():
        from training.run import train
    train(settings, train_pairs, val_pairs, paths)


def _check_training(training):
    """Refuse training settings that contradict each other, and starting weights that do not exist."""
    if training.batch_hard_count > training.batch_size:
        raise UserError(
            f"--batch_hard_count {training.batch_hard_count}: more than the --batch_size {training.batch_size}; choose fewer"
        )
    if training.batch_hard_count and training.loss != TrainingConfig.loss:
        raise UserError(f"--batch_hard_count: only --loss {TrainingConfig.loss} takes it; leave it out")
    if training.warmup_epochs >= training.epochs:
        raise UserError(f"--warmup_epochs {training.warmup_epochs:g}: not less than --epochs {training.epochs}; choose fewer")
    if training.continue_from is not None:
        if training.init != TrainingConfig.init:
            raise UserError("--continue_from takes all weights from its checkpoint; leave --init out")
        find_checkpoint(training.continue_from)
    elif training.init not in ("imagenet", "random"):
        find_checkpoint(training.init)


def testing_parser(description, dataset_classes):
    """The flags of a test script; arguments as of `launch_testing`."""
    parser = Parser(description)
    default_split = next(iter(dataset_classes))
    add_run_folders(parser, dataset_classes[default_split].has_act_data)
    if len(dataset_classes) > 1:
        parser.add_argument("--split", choices=list(dataset_classes), help="which pairs to test on")
    parser.set_defaults(split=default_split)
    parser.add_argument(
        "--checkpoint",
        metavar="{best,last,PATH}",
        help="weights to test. best: of the training run below --model_dir, those of the epoch with the best R@1 on the "
        "validation split, which is also the split tested on, as usual for these datasets. last: the run's newest. PATH: "
        "ours, the authors' or Keras's, or a folder whose newest are taken; ./last for one of that name (default: best where "
        "there is a run, else the authors' Trained/model.ckpt in the dataset's folder below --model_dir)",
    )
    parser.add_argument(
        "--batch_size", type=at_least(int, 1), default=32, metavar="IMAGES", help="images at a time; does not change the result"
    )
    parser.add_argument(
        "--save_descriptors", metavar="FILE.npz", help="write ids, sat_descriptors and grd_descriptors to this file"
    )
    add_settings(parser, RunConfig, only=["devices"])
    add_settings(parser, TrainingConfig, only=["precision"])
    add_network(parser, from_checkpoint=True)
    return parser


def launch_testing(description, dataset_classes):
    """Parse the flags of a test script, check its data, test, report.

    Args:
        description: the script's, for --help.
        dataset_classes: {split: class of datasets.dataset.Dataset}; the first is the default. Networks are trained on the
            first.
    """
    args = testing_parser(description, dataset_classes).parse_args()
    trained_on = next(iter(dataset_classes.values()))
    check_output("--save_descriptors", args.save_descriptors)
    source = _tested_checkpoint(args, trained_on)
    network = use_checkpoint(source, lambda path, _: checkpoint_network(args, path))
    dataset = _dataset(dataset_classes[args.split], args)
    pairs = _checked_pairs(dataset, args.split, network, args)
    _say(*_findings({args.split: pairs}))
    paths = run_paths(args.model_dir, args.result_dir, dataset.name, network, args.run)
    os.makedirs(os.path.dirname(paths.json), exist_ok=True)

    with importing():
        from runtime.distribution import Distribution, explain_tensorflow_errors

        from retrieval.evaluation import evaluate, save_descriptors
    distribution = Distribution(args.devices, args.precision)
    print(*distribution.notes, sep="\n", end="\n" if distribution.notes else "", flush=True)
    with explain_tensorflow_errors(distribution, "a smaller --batch_size"):
        extractor, path = _loaded(distribution, network, args.precision, source)
        begin = time.perf_counter()
        shapes = network.sat_shape, network.grd_shape
        references, queries = extractor.pairs(pairs, shapes, args.batch_size, pairs.name)
        described = time.perf_counter()
        if not distribution.is_chief:
            return
        result = {"dataset": dataset.name, "split": args.split, "network_type": network.network_type}
        result |= {"polar": network.polar, "run": args.run, "precision": args.precision, "checkpoint": path}
        result |= evaluate(references, queries, pairs)
        ranked = time.perf_counter()
        result["seconds"] = {"descriptors": round(described - begin, 3), "ranks": round(ranked - described, 3)}
        if args.save_descriptors is not None:
            save_descriptors(args.save_descriptors, pairs, references, queries)
        write_whole(paths.json, json.dumps(result, indent=2).encode())
        _report(result, pairs, network)


def _loaded(distribution, config, precision, source):
    """A DescriptorExtractor of a network with the weights that a path names, and the path of these."""
    from retrieval.descriptors import DescriptorExtractor
    from spatial_net import network
    from training.weights import left_aside_note, load_weights, network_variables

    with distribution.strategy.scope():
        model = network(config, precision=precision)
    path, aside = use_checkpoint(source, lambda path, kind: (path, load_weights(model, path, kind, config)))
    distribution.share_chiefs_values(list(network_variables(model).values()))
    _say(f"checkpoint: {path}", left_aside_note(path, aside))
    return DescriptorExtractor(model, distribution), path


def _report(result, pairs, network):
    """Print the table of a test."""
    published = published_row(pairs.dataset.name, network)
    print(f"\n{pairs.name}, {network}: {result['queries']:,} panoramas among {result['references']:,} aerial images")
    print(recall_table(result, published), flush=True)
    count = pairs.dataset.published_counts.get(pairs.split)
    if published is not None and len(pairs) != count:
        print(f"the published recalls are among {count:,} pairs, which these are not", flush=True)


def _say(*lines):
    """Print those lines that are not None, in the chief's process."""
    if is_chief():
        for line in lines:
            if line is not None:
                print(line, flush=True)


def _dataset(dataset_class, args):
    act_data = {"act_data": args.act_data} if "act_data" in args else {}
    return dataset_class(args.data_dir, args.prepared_dir, **act_data)


def _checked_pairs(dataset, split, network, args):
    shapes = network.sat_shape, network.grd_shape
    pairs, note = check_files(dataset.pairs(split, network.reference), shapes, args.skip_missing)
    _say(note)
    return pairs


def _findings(splits):
    """Lines that say what check_data.py would, as far as nothing has to be decoded.

    Args:
        splits: {name: Pairs} of one dataset.
    """
    pairs = next(iter(splits.values()))
    dataset, lines = pairs.dataset, []
    if pairs.reference == POLAR and not polar_maps_are_stretched(dataset.polar_dir):
        lines.append(f"{dataset.polar_dir}: polar maps without the min-max stretch, unlike the paper's")
    findings = check_lists(dataset, splits)
    for split, pairs in splits.items():
        if pairs.reference == POLAR:
            findings += outdated(split, list(zip(resolve_case(pairs.tile_paths), pairs.sat_paths, strict=True)))
    lines += [f"{dataset.name} {finding.split}: {finding.count:,} {finding.text}" for finding in findings]
    if any(finding.problem for finding in findings):
        lines.append(f"check_data.py --dataset {dataset.name.lower()} says more")
    return lines


def _tested_checkpoint(args, trained_on):
    """Path of the checkpoint to test: the one that is named, the best or last of our training run, or the authors'."""
    if args.checkpoint not in (None, BEST, LAST):
        return args.checkpoint
    asked = NetworkConfig(args.network_type, args.polar)
    paths = run_paths(args.model_dir, args.result_dir, trained_on.name, asked, args.run)
    ours = paths.folder if args.checkpoint == LAST else paths.best
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
