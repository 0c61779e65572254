"""A test script: its flags, and the test from the weights to the recalls."""

import contextlib
import dataclasses
import os
import time

import filelock

from safa import __version__
from safa.datasets.pair_images import PairImages
from safa.datasets.panorama_views import PanoramaView, kept_columns
from safa.launch.given_data import checked_pairs, findings_of, given_dataset, say
from safa.launch.page import report_page
from safa.loading import found_network, load_network
from safa.report.figures import FigureConfig, FigureSource, draw_figures
from safa.report.result_file import write_result
from safa.report.result_lines import result_lines
from safa.report.rows import collect
from safa.retrieval.task import DIRECTIONS, GROUND_TO_AERIAL, task_of
from safa.runtime.backend import importing_tensorflow
from safa.runtime.command_line import Checked, Parser, add_settings, at_least, check_output, parsed, same_setting, setting
from safa.runtime.errors import UserError, first_few
from safa.settings import Folders, NetworkConfig, RunConfig, TrainingConfig, add_network, add_run_folders
from safa.training.run_folder import BEST, given_settings, run_paths, trained_on_dataset

LAST = "last"  # besides BEST: what --checkpoint takes for the run's own
DESCRIPTORS = ".descriptors"  # endings of the folders of descriptors and figures beside a result file
FIGURES = ".figures"
LOCK = ".lock"  # held by the process that writes in the folder of descriptors


@dataclasses.dataclass(frozen=True)
class TestConfig(Checked):
    """What is tested, and how."""

    checkpoint: str | None = setting(
        None,
        "weights to test. best: of the training run below --model_dir, those of the epoch with the best R@1 on the validation "
        "split, which is also the split tested on, as usual for these datasets. last: the run's newest. PATH: ours, the "
        "authors' or Keras's, of this or another dataset, or a folder whose newest are taken; ./last for one of that name "
        "(default: best where there is a run, else the authors' Trained/model.ckpt in the dataset's folder below --model_dir)",
        metavar="{best,last,PATH}",
    )
    seed: int = setting(0, "seed of the training run that is tested", at_least(int, 0))
    batch_size: int = setting(32, "images at a time; does not change the result", at_least(int, 1), metavar="IMAGES")
    devices: int | None = same_setting(RunConfig, "devices")
    precision: str = same_setting(TrainingConfig, "precision")
    direction: str = setting(
        GROUND_TO_AERIAL,
        "panoramas are searched for among aerial images, or the other way round; each direction has a result file of its own",
        choices=DIRECTIONS,
        paper="ground_to_aerial",
    )
    radius: float | None = setting(
        None,
        "also count matches within this distance of the truth, in datasets with coordinates (default: 5 for CVACT_test, else "
        "none)",
        at_least(float, 0),
        metavar="METRES",
    )
    descriptors: str = setting(
        "disk",
        "where descriptors are kept. disk: in a folder beside the result file, so a stopped test goes on and a further test "
        "of the same weights and images computes none again (1.5 GB a branch for CVACT_test)",
        choices=("disk", "memory"),
    )
    save_descriptors: str | None = setting(
        None, "file for ids, sat_descriptors and grd_descriptors (default: none)", metavar="FILE.npz"
    )
    save_mat: str | None = setting(
        None, "MATLAB file for sat_global_descriptor and grd_global_descriptor (default: none)", metavar="FILE.mat"
    )


def testing_parser(description, dataset_classes):
    """The flags of a test script; arguments as of `launch_testing`."""
    parser = Parser(description)
    default_split = next(iter(dataset_classes))
    add_run_folders(parser, dataset_classes[default_split].has_act_data)
    if len(dataset_classes) > 1:
        parser.add_argument("--split", choices=list(dataset_classes), help="which pairs to test on")
    parser.set_defaults(split=default_split)
    add_settings(parser.add_argument_group("test"), TestConfig)
    add_network(parser, from_checkpoint=True)
    views = parser.add_argument_group("queries", "the paper's by default; others have result files of their own")
    add_settings(views, PanoramaView)
    figures = parser.add_argument_group("figures", "written to a folder beside the result file, after the numbers")
    add_settings(figures, FigureConfig)
    return parser


def launch_testing(description, dataset_classes):
    """Parse the flags of a test script, check its data, compute descriptors, search, report.

    Args:
        description: the script's, for --help.
        dataset_classes: {split: class of datasets.dataset.Dataset}; the first is the default. Networks are trained on the
            first.
    """
    args = testing_parser(description, dataset_classes).parse_args()
    config, folders, view, figures = (parsed(kind, args) for kind in (TestConfig, Folders, PanoramaView, FigureConfig))
    check_output("--save_descriptors", config.save_descriptors)
    check_output("--save_mat", config.save_mat)

    # The weights: what they are says which images they need.
    trained_for = next(iter(dataset_classes.values())).name
    source = tested_checkpoint(config, folders, trained_for, given_settings(args))
    network, manifest = found_network(source, given_settings(args))
    trained_on = trained_on_dataset(manifest, source)

    # The data.
    check_view(view, config, network)
    dataset = given_dataset(dataset_classes[args.split], folders)
    pairs = checked_pairs(dataset, args.split, network, folders)
    task = task_of(pairs, config.direction, config.radius)
    figures.check(task, config.direction, network, view)
    say(*findings_of({args.split: pairs}))

    # Where the result goes.
    seed = config.seed if manifest is None else manifest.training.seed
    base = run_paths(folders.model_dir, folders.result_dir, dataset.name, network, folders.run, seed).json.removesuffix(".json")
    base += f"_trained_on_{trained_on}" if trained_on not in (None, trained_for) else ""
    direction = config.direction if config.direction != GROUND_TO_AERIAL else ""
    path = "_".join(filter(None, (base, view.name, direction))) + ".json"
    os.makedirs(os.path.dirname(path), exist_ok=True)

    with importing_tensorflow():
        from safa.retrieval.cost import network_cost
        from safa.retrieval.descriptors import DescriptorExtractor
        from safa.retrieval.device_products import products_on_gpu
        from safa.retrieval.evaluation import WINNERS, evaluate
        from safa.retrieval.saved_descriptors import save_mat, save_npz
        from safa.retrieval.search import search
        from safa.runtime.distribution import Distribution, explain_tensorflow_errors
        from VGG import MEAN_BGR
    distribution = Distribution(config.devices, config.precision)
    say(*distribution.notes)
    with explain_tensorflow_errors(distribution, "a smaller --batch_size"):
        loaded = load_network(source, network, config.precision, distribution)
        say(f"checkpoint: {loaded.path}", loaded.note)
        cost = network_cost(loaded.model)

        # Images to descriptors.
        begin = time.perf_counter()
        panoramas = view.test_panoramas(len(pairs), network.width, MEAN_BGR)
        images = PairImages.of(pairs, (network.sat_shape, network.grd_shape), panoramas)
        extractor = DescriptorExtractor(loaded.model, distribution)
        identity = {"weights": loaded.digest, "network": dataclasses.asdict(network), "precision": config.precision}
        with own_folder(base + DESCRIPTORS, config.descriptors == "disk" and distribution.is_chief) as folder:
            sat = descriptors(extractor, "sat", images.sat, pairs.name, config.batch_size, folder, identity)
            grd = descriptors(extractor, "grd", images.grd, pairs.name, config.batch_size, folder, identity, view.name)
            if not distribution.is_chief:
                return

            # Descriptors to ranks.
            ready = time.perf_counter()
            panorama_rows, degrees_off = grd.rows, None
            if view.search_heading > 1:  # (T * Q, D) -> (Q, T, D)
                by_turn = view.search_heading, len(pairs)
                panorama_rows = grd.rows.reshape(*by_turn, -1).swapaxes(0, 1)
                degrees_off = panoramas.degrees_off(network.width).reshape(by_turn).T
            references, queries = sat.rows, panorama_rows
            if config.direction != GROUND_TO_AERIAL:
                references, queries = panorama_rows, sat.rows[task.queries]
            found = search(references, queries, task.truth, task.near, WINNERS, products_on_gpu(references))
            result = {
                "version": __version__,
                "dataset": dataset.name,
                "split": args.split,
                "trained_on": trained_on,
                "network_type": network.network_type,
                "polar": network.polar,
                "run": folders.run,
                "seed": seed,
                "network": dataclasses.asdict(network),
                "direction": config.direction,
                "view": view.name,
                "precision": config.precision,
                "checkpoint": loaded.path,
                **evaluate(task, found, degrees_off),
                "cost": cost | {"milliseconds": milliseconds_of_pair(sat, grd, view.search_heading)},
                "device": str(distribution),
                "seconds": {"descriptors": round(ready - begin, 3), "ranks": round(time.perf_counter() - ready, 3)},
            }
            write_result(path, result)

            # Ranks to tables, files and pictures.
            (row,), _ = collect([path])
            print("", *result_lines(row), sep="\n", flush=True)
            if config.save_descriptors is not None:
                save_npz(config.save_descriptors, pairs, sat.rows, grd.rows)
            if config.save_mat is not None:
                save_mat(config.save_mat, sat.rows, grd.rows)
            tested = FigureSource(images, task, config.direction, found, references, queries)
            if figures.report:
                page = report_page(figures, path, row, tested, loaded.model)
                print(f"page: {page}", flush=True)
            draw_figures(figures, path.removesuffix(".json") + FIGURES, tested, loaded.model)


def tested_checkpoint(config, folders, dataset_name, given):
    """Path of the checkpoint to test: the one that is named, the best or last of our training run, or the authors'.

    Args:
        config: TestConfig.
        folders: settings.Folders.
        dataset_name: of the dataset that networks are trained on.
        given: settings of the network that flags name, {name: value}.

    Raises:
        UserError: there is none.
    """
    if config.checkpoint not in (None, BEST, LAST):
        return config.checkpoint
    asked = NetworkConfig(**given)
    paths = run_paths(folders.model_dir, folders.result_dir, dataset_name, asked, folders.run, config.seed)
    ours = paths.folder if config.checkpoint == LAST else paths.best
    authors = os.path.join(folders.model_dir, dataset_name, "Trained", "model.ckpt")
    if os.path.isdir(ours):
        return ours
    train = f"train it (train_{dataset_name.lower()}.py)"
    if config.checkpoint is not None:
        raise UserError(
            f"--checkpoint {config.checkpoint}: no training run of {asked} in {ours}; {train}, or name "
            f"./{config.checkpoint} for a file or folder of that name"
        )
    for flag, value in (("run", folders.run), ("seed", config.seed or None)):
        if value is not None:
            raise UserError(
                f"--{flag} {value}: no training run of {asked} in {ours}{_runs_beside(paths.folder)}; {train}, or name weights "
                "with --checkpoint"
            )
    if os.path.isdir(os.path.dirname(authors)):
        return authors
    raise UserError(
        f"no checkpoint of {asked}: neither ours in {ours} nor the authors' {authors}; {train}, or name one with --checkpoint"
    )


def _runs_beside(folder):
    """What other runs lie beside a folder, for a message; "" where there are none."""
    try:
        names = sorted(entry.name for entry in os.scandir(os.path.dirname(folder)) if entry.is_dir())
    except OSError:
        return ""
    return f" (there are {first_few(names)})" if names else ""


def check_view(view, config, network):
    """Refuse a PanoramaView that a TestConfig or NetworkConfig contradicts."""
    if not kept_columns(view.fov, network.width):
        raise UserError(f"--fov {view.fov}: less than a column of {network.width}; use a larger one")
    if view.search_heading > 1:
        if config.direction != GROUND_TO_AERIAL:
            raise UserError("--search_heading: only panoramas that are the queries have turns; leave --direction out")
        for flag in "save_descriptors", "save_mat":
            if getattr(config, flag) is not None:
                raise UserError(f"--{flag}: with --search_heading a query has several descriptors; leave one of both out")


@contextlib.contextmanager
def own_folder(folder, wanted):
    """A folder that this process has alone, made if it does not exist; None if none is wanted or another process has it."""
    with contextlib.ExitStack() as stack:
        if wanted:
            os.makedirs(folder, exist_ok=True)
            try:
                stack.enter_context(filelock.FileLock(os.path.join(folder, LOCK), blocking=False))
            except filelock.Timeout:
                wanted = False
        yield folder if wanted else None


def descriptors(extractor, branch, images, title, batch_size, folder, identity, view=""):
    """The descriptors of a branch's images.

    Args:
        extractor: retrieval.descriptors.DescriptorExtractor.
        branch, images, title, batch_size: as of its `fill`.
        folder: keeps them, so that they are not computed again; None: they are in memory.
        identity: what they depend on besides the images' files, as JSON keeps it.
        view: name of the queries' PanoramaView.

    Returns:
        ResumableRows, (N, D) float32.
    """
    from safa.retrieval.descriptors import BRANCHES
    from safa.retrieval.resumable_rows import ResumableRows

    count, name = len(images.paths), "_".join(filter(None, (branch, view)))
    rows = ResumableRows(
        (count, extractor.dimension),
        path=None if folder is None else os.path.join(folder, name),
        identity=identity | {"view": view},
        sources=images.paths,
        remedy="free some space, use another --result_dir, or --descriptors memory",
    )
    say(rows.note)
    if rows.done == count:
        say(f"{title}: the {BRANCHES[branch]} descriptors were computed before, from the same weights and images")
    elif rows.done:
        say(f"{title}: going on after {rows.done:,} {BRANCHES[branch]} descriptors")
    extractor.fill(rows, branch, images, batch_size, title)
    return rows


def milliseconds_of_pair(sat, grd, turns):
    """Milliseconds that the descriptors of a tile and a panorama take, or None where that was not measured."""
    return None if None in (sat.milliseconds, grd.milliseconds) else sat.milliseconds + turns * grd.milliseconds
