"""A test script's flags and its course: find the weights, check the data, describe, search, report."""

import contextlib
import dataclasses
import os
import time

import filelock

from safa.datasets.panorama_views import PanoramaView, kept_columns
from safa.launch.figures import add_figures, check_figures, draw_figures
from safa.launch.given_data import checked_pairs, findings_of, given_dataset, say
from safa.launch.page import report_page
from safa.launch.tested_checkpoint import tested_checkpoint, trained_on_dataset
from safa.loading import found_network, load_network
from safa.report.figures import FigureSource
from safa.report.published import published_row
from safa.report.result_file import write_result
from safa.report.tables import cost_line, rank_lines, recall_table, tested_line
from safa.retrieval.task import DIRECTIONS, GROUND_TO_AERIAL, task_of
from safa.runtime.backend import importing_tensorflow
from safa.runtime.command_line import Parser, add_settings, at_least, check_output, parsed
from safa.runtime.errors import UserError
from safa.settings import RunConfig, TrainingConfig, add_network, add_run_folders
from safa.training.run_folder import given_settings, run_paths

DESCRIPTORS = ".descriptors"  # endings of the folders of descriptors and figures beside a result file
FIGURES = ".figures"
LOCK = ".lock"  # held by the process that writes in the folder of descriptors
REMEDY = "free some space, use another --result_dir, or --descriptors memory"


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
        "ours, the authors' or Keras's, of this or another dataset, or a folder whose newest are taken; ./last for one of "
        "that name (default: best where there is a run, else the authors' Trained/model.ckpt in the dataset's folder below "
        "--model_dir)",
    )
    parser.add_argument("--seed", type=at_least(int, 0), default=0, help="of the training run that is tested")
    parser.add_argument(
        "--batch_size", type=at_least(int, 1), default=32, metavar="IMAGES", help="images at a time; does not change the result"
    )
    add_settings(parser, RunConfig, only=["devices"])
    add_settings(parser, TrainingConfig, only=["precision"])
    add_network(parser, from_checkpoint=True)
    task = parser.add_argument_group("task", "the paper's by default; others have result files of their own")
    task.add_argument(
        "--direction",
        choices=DIRECTIONS,
        default=GROUND_TO_AERIAL,
        help="panoramas are searched for among aerial images, or the other way round (paper: ground_to_aerial)",
    )
    task.add_argument(
        "--radius",
        type=at_least(float, 0),
        metavar="METRES",
        help="also count matches within this distance of the truth, in datasets with positions (default: 5 for CVACT_test, "
        "else none)",
    )
    add_settings(task, PanoramaView)
    add_figures(parser)
    files = parser.add_argument_group("descriptors")
    files.add_argument(
        "--descriptors",
        choices=("disk", "memory"),
        default="disk",
        help="where they are kept. disk: in a folder beside the result file, so a stopped test goes on and a further test "
        "of the same weights and images computes none again (1.5 GB a view for CVACT_test)",
    )
    files.add_argument(
        "--save_descriptors", metavar="FILE.npz", help="write ids, sat_descriptors and grd_descriptors to this file"
    )
    files.add_argument(
        "--save_mat", metavar="FILE.mat", help="write sat_global_descriptor and grd_global_descriptor to this MATLAB file"
    )
    return parser


@dataclasses.dataclass(frozen=True)
class _Plan:
    """A test that was asked for and checked, before anything is computed.

    Attributes:
        home: class of the dataset that networks are trained on.
        source: path of the weights.
        network: settings.NetworkConfig.
        view: PanoramaView.
        pairs: datasets.dataset.Pairs.
        task: retrieval.task.Task.
        base: path of the result's files without endings, of all views and directions.
        path: of the result file.
        result: what is known of the result.
    """

    home: type
    source: str
    network: object
    view: PanoramaView
    pairs: object
    task: object
    base: str
    path: str
    result: dict


def launch_testing(description, dataset_classes):
    """Parse the flags of a test script, check its data, test, report.

    Args:
        description: the script's, for --help.
        dataset_classes: {split: class of datasets.dataset.Dataset}; the first is the default. Networks are trained on the
            first.
    """
    args = testing_parser(description, dataset_classes).parse_args()
    plan = _plan(args, dataset_classes)
    say(*findings_of({args.split: plan.pairs}))
    os.makedirs(os.path.dirname(plan.path), exist_ok=True)
    _test(args, plan)


def _plan(args, dataset_classes):
    """The _Plan of a test, all of whose mistakes are found here."""
    home = next(iter(dataset_classes.values()))
    check_output("--save_descriptors", args.save_descriptors)
    check_output("--save_mat", args.save_mat)
    source = tested_checkpoint(args, home)
    network, note = found_network(source, given_settings(args))
    view = _panorama_view(args, network)
    dataset = given_dataset(dataset_classes[args.split], args)
    pairs = checked_pairs(dataset, args.split, network, args)
    task = task_of(pairs, args.direction, args.radius)
    check_figures(args, task, network, view)
    trained_on = trained_on_dataset(note, source)
    seed = args.seed if note is None else note.training.seed
    base = run_paths(args.model_dir, args.result_dir, dataset.name, network, args.run, seed).json.removesuffix(".json")
    base += f"_trained_on_{trained_on}" if trained_on not in (None, home.name) else ""
    path = "_".join([base, *filter(None, (view.name, args.direction if args.direction != GROUND_TO_AERIAL else ""))]) + ".json"
    result = {"dataset": dataset.name, "split": args.split, "trained_on": trained_on, "network_type": network.network_type}
    result |= {"polar": network.polar, "run": args.run, "seed": seed, "network": dataclasses.asdict(network)}
    result |= {"direction": args.direction, "view": view.name, "precision": args.precision}
    return _Plan(home, source, network, view, pairs, task, base, path, result)


def _test(args, plan):
    """Describe, search, and write what was found."""
    with importing_tensorflow():
        from safa.retrieval.cost import network_cost
        from safa.retrieval.descriptors import DescriptorExtractor
        from safa.retrieval.device_products import products_on_gpu
        from safa.retrieval.evaluation import WINNERS, evaluate
        from safa.retrieval.search import search
        from safa.runtime.distribution import Distribution, explain_tensorflow_errors
    distribution = Distribution(args.devices, args.precision)
    print(*distribution.notes, sep="\n", end="\n" if distribution.notes else "", flush=True)
    network, task, result = plan.network, plan.task, dict(plan.result)
    with explain_tensorflow_errors(distribution, "a smaller --batch_size"):
        loaded = load_network(plan.source, network, args.precision, distribution)
        model, cost, weights, result["checkpoint"] = loaded.model, network_cost(loaded.model), loaded.digest, loaded.path
        say(f"checkpoint: {loaded.path}", loaded.note)
        identity = {"weights": weights, "network": dataclasses.asdict(network), "precision": args.precision}
        begin = time.perf_counter()
        with _descriptor_folder(args, distribution, plan.base + DESCRIPTORS) as folder:
            extractor = DescriptorExtractor(model, distribution)
            described = _described(extractor, plan.pairs, network, plan.view, args.batch_size, folder, identity)
            ready = time.perf_counter()
            if not distribution.is_chief:
                return
            sat, grd = described.satellite, described.ground
            references, queries = (sat, grd) if args.direction == GROUND_TO_AERIAL else (grd, sat[task.queries])
            found = search(references, queries, task.truth, task.near, WINNERS, products_on_gpu(references))
            result |= evaluate(task, found, described.degrees_off)
            result["cost"] = cost | {"milliseconds": described.milliseconds}
            result["device"] = str(distribution)
            result["seconds"] = {"descriptors": round(ready - begin, 3), "ranks": round(time.perf_counter() - ready, 3)}
            write_result(plan.path, result)
            published = _published(result, network, plan.home)
            _report(result, plan.pairs, network, published)
            _save(args, plan.pairs, sat, grd)
            ranks = result["ranks"]["exact" if task.near is None else task.counted]
            tested = FigureSource(
                plan.pairs, task, args.direction, references, queries, ranks, found, network.width, described.turned
            )
            if args.report:
                print(f"page: {report_page(args, plan.path, result, published, tested, network, model)}", flush=True)
            shapes = network.sat_shape, network.grd_shape
            draw_figures(args, plan.path.removesuffix(".json") + FIGURES, tested, model, shapes)


def _save(args, pairs, sat, grd):
    """Write the files of descriptors that flags name."""
    from safa.retrieval.saved_descriptors import save_mat, save_npz

    if args.save_descriptors is not None:
        save_npz(args.save_descriptors, pairs, sat, grd)
    if args.save_mat is not None:
        save_mat(args.save_mat, sat, grd)


def _panorama_view(args, network):
    """The PanoramaView that the flags ask for, checked."""
    view = parsed(PanoramaView, args)
    if not kept_columns(view.fov, network.width):
        raise UserError(f"--fov {view.fov}: less than a column of {network.width}; use a larger one")
    if view.search_heading > 1:
        if args.direction != GROUND_TO_AERIAL:
            raise UserError("--search_heading: only panoramas that are the queries have turns; leave --direction out")
        for flag in "save_descriptors", "save_mat":
            if getattr(args, flag) is not None:
                raise UserError(f"--{flag}: with --search_heading a query has several descriptors; leave one of both out")
    return view


@contextlib.contextmanager
def _descriptor_folder(args, distribution, folder):
    """The folder for a test's descriptors, which this process has alone; None where they stay in memory."""
    if args.descriptors == "memory" or not distribution.is_chief:
        yield None
        return
    os.makedirs(folder, exist_ok=True)
    try:
        with filelock.FileLock(os.path.join(folder, LOCK), blocking=False):
            yield folder
    except filelock.Timeout:
        yield None


@dataclasses.dataclass(frozen=True)
class _Described:
    """A split's descriptors.

    Attributes:
        satellite: (N, D) float32.
        ground: (Q, D) float32, or (Q, T, D) where queries are described at T turns.
        degrees_off: (Q, T) float64 of `retrieval.evaluation.evaluate`, or None.
        milliseconds: that computing took a pair, or None where one batch was all.
        turned: datasets.panorama_views.TurnedPanoramas of the queries, or None.
    """

    satellite: object
    ground: object
    degrees_off: object
    milliseconds: float | None
    turned: object = None


def _described(extractor, pairs, network, view, batch_size, folder, identity):
    """The _Described of a split; `folder` keeps the descriptors, or is None."""
    from safa.datasets.pair_images import PairImages
    from safa.retrieval.descriptors import BRANCHES
    from safa.retrieval.resumable_rows import ResumableRows
    from VGG import MEAN_BGR

    turned = view.test_panoramas(len(pairs), network.width, MEAN_BGR)
    shapes = network.sat_shape, network.grd_shape
    found, milliseconds = [], []
    pair_images = PairImages.of(pairs, shapes, turned)
    for branch in BRANCHES:
        images = getattr(pair_images, branch)
        name = "_".join([branch, *([view.name] if branch == "grd" and view.name else [])])
        path = None if folder is None else os.path.join(folder, name)
        shape = len(images.paths), extractor.dimension
        of = identity | {"view": view.name if branch == "grd" else ""}
        rows = ResumableRows(shape, path=path, identity=of, sources=images.paths, remedy=REMEDY)
        say(rows.note)
        if rows.done == len(images.paths):
            say(f"{pairs.name}: the {BRANCHES[branch]} descriptors were computed before, from the same weights and images")
        elif rows.done:
            say(f"{pairs.name}: going on after {rows.done:,} {BRANCHES[branch]} descriptors")
        extractor.fill(rows, branch, images, batch_size, pairs.name)
        found.append(rows.rows)
        milliseconds.append(rows.milliseconds)
    satellite, ground = found
    total = None if None in milliseconds else sum(milliseconds) + milliseconds[1] * (view.search_heading - 1)
    if ground is None or view.search_heading == 1:
        return _Described(satellite, ground, None, total, turned)
    by_turn = view.search_heading, len(pairs)
    degrees_off = turned.degrees_off(network.width).reshape(by_turn).T
    return _Described(satellite, ground.reshape(*by_turn, -1).swapaxes(0, 1), degrees_off, total, turned)


def _published(result, network, home):
    """The published row of the same task, or None."""
    papers = result["direction"] == GROUND_TO_AERIAL and not result["view"] and result["trained_on"] in (None, home.name)
    return published_row(result["dataset"], network) if papers else None


def _report(result, pairs, network, published):
    """Print the table of a test."""
    print(f"\n{tested_line(pairs.name, network, result)}")
    print(recall_table(result, published), *rank_lines(result), cost_line(result["cost"]), sep="\n", flush=True)
    count = pairs.dataset.published_counts.get(pairs.split)
    if published is not None and len(pairs) != count:
        print(f"the published recalls are among {count:,} pairs, which these are not", flush=True)
