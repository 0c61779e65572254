"""A test script: its flags, and the test from the weights to the recalls."""

import contextlib
import dataclasses
import os
import time

from safa import __version__
from safa.datasets.corruptions import CorruptedPanoramas, QueryView
from safa.datasets.pair_images import PairImages
from safa.datasets.panorama_views import check_turns, kept_columns
from safa.datasets.preparation import polar_maps_are_stretched
from safa.launch.corruption import grid_section, queries_of, seen_of, unfinished
from safa.launch.given_data import Folders, add_run_folders, checked_pairs, findings_of, given_dataset
from safa.launch.page import page_output, report_page
from safa.loading import found_network, load_network, tested_checkpoint, tested_weights
from safa.report.figures import FigureConfig, FigureSource, draw_figures
from safa.report.recall_line import recall_line
from safa.report.result_file import RESULT, check_earlier, write_result
from safa.report.result_lines import result_lines
from safa.report.rows import collect
from safa.retrieval.evaluation import WINNERS, evaluate
from safa.retrieval.resumable_rows import ResumableRows, files_digest
from safa.retrieval.saved_descriptors import MAT, NPZ, check_mat, save_mat, save_npz
from safa.retrieval.search import search
from safa.retrieval.task import DIRECTIONS, GROUND_TO_AERIAL, task_of
from safa.runtime.backend import importing_tensorflow
from safa.runtime.cluster import say
from safa.runtime.command_line import Checked, Parser, add_settings, at_least, parsed, same_setting, setting
from safa.runtime.errors import UserError, reported
from safa.runtime.files import locked
from safa.runtime.outputs import Output, check_outputs
from safa.runtime.provenance import session
from safa.runtime.worker_pool import available_cores, worker_map
from safa.settings import RunConfig, TrainingConfig, add_network, given_settings
from safa.training.checkpoint_files import DATA, INDEX, use_checkpoint
from safa.training.run_folder import run_paths

DESCRIPTORS = ".descriptors"  # endings of the folders of descriptors and figures beside a result file
FIGURES = ".figures"
REMEDY = "free some space, use another --result_dir, or --descriptors memory"  # where descriptors fill the disk
BUSY = "another test computes these descriptors; waiting for it"
KILLED = "free some, and go on with the same command"  # where a process that corrupts images lacks memory


@dataclasses.dataclass(frozen=True)
class TestConfig(Checked):
    """What is tested, and how."""

    checkpoint: str | None = setting(
        None,
        "weights to test. best: of the run below --model_dir, those of the epoch with the best R@1 on the validation split, "
        "which is also the split tested on, as usual for these datasets. last: the run's newest. PATH: any weights, or a "
        "folder whose newest are taken; ./last for one of that name (default: best of the run, else the authors' "
        "Trained/model.ckpt there)",
        metavar="{best,last,PATH}",
    )
    seed: int = setting(0, "seed of the training run that is tested", at_least(int, 0, 2**31 - 1))
    batch_size: int = setting(32, "images computed at a time; does not change the result", at_least(int, 1), metavar="IMAGES")
    devices: int | None = same_setting(RunConfig, "devices")
    precision: str = same_setting(TrainingConfig, "precision")
    direction: str = setting(
        GROUND_TO_AERIAL,
        "direction of the search: panoramas among aerial images, or the other way round; each has a result file of its own",
        choices=DIRECTIONS,
        paper="ground_to_aerial",
    )
    radius: float | None = setting(
        None,
        "also count matches within this distance of the truth, in datasets with coordinates, instead of VIGOR's acceptable "
        "tiles and hit rate (default: 5 for CVACT_test)",
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
    add_run_folders(parser, dataset_classes[default_split])
    if len(dataset_classes) > 1:
        parser.add_argument("--split", choices=list(dataset_classes), help="which pairs to test on")
    parser.set_defaults(split=default_split)
    add_settings(parser.add_argument_group("test"), TestConfig)
    add_network(parser)
    views = parser.add_argument_group("queries", "the paper's by default; others have result files of their own")
    add_settings(views, QueryView)
    figures = parser.add_argument_group("figures", "written to a folder beside the result file, after the numbers")
    add_settings(figures, FigureConfig)
    return parser


@reported()
def launch_testing(description, dataset_classes):
    """Parse the flags of a test script, check its data, compute descriptors, search, report; mistakes as `launch_training`.

    `description`: the script's, for --help. `dataset_classes`: {split: class of datasets.dataset.Dataset}; the first is the
    default, and what networks are trained on.
    """
    args = testing_parser(description, dataset_classes).parse_args()
    config, folders, view, figures = (parsed(kind, args) for kind in (TestConfig, Folders, QueryView, FigureConfig))

    # The weights: what they are says which images they need.
    trained_for = next(iter(dataset_classes.values())).name
    source = tested_checkpoint(config, folders, trained_for, given_settings(args))
    network, manifest = found_network(source, given_settings(args))

    # The data.
    check_view(view, config, network)
    check_turns(dataset_classes[args.split], view, ("fov", "unknown_heading", "search_heading"))
    dataset = given_dataset(dataset_classes[args.split], folders)
    pairs = checked_pairs(dataset, args.split, network, folders)
    pairs, read_of = queries_of(views := view.cells, pairs, network, folders.skip_missing)
    task = task_of(pairs, config.direction, config.radius)
    figures.check(task, config.direction, network, view)
    say(*findings_of({args.split: pairs}))
    stretched = network.polar and polar_maps_are_stretched(dataset.polar_dir)
    if network.polar and manifest and manifest.data.get("stretched_polar_maps", stretched) != stretched:
        say("warning: the network was trained on polar maps of the other kind, with or without the min-max stretch")

    # Where the result goes.
    checkpoint = use_checkpoint(source, lambda path, _: path)
    tested = tested_weights(source, checkpoint, manifest, folders)
    paths = run_paths(folders.model_dir, folders.result_dir, dataset.name, network, tested["run"], tested["seed"])
    abroad = f"trained_on_{tested['trained_on']}" if tested["trained_on"] not in (None, trained_for) else None
    base = "_".join(filter(None, (paths.json.removesuffix(".json"), tested["weights"], abroad)))
    direction = config.direction if config.direction != GROUND_TO_AERIAL else None
    path_of = {each: "_".join(filter(None, (base, each.name, direction))) + ".json" for each in views}
    os.makedirs(os.path.dirname(base), exist_ok=True)
    outputs = [page_output(path_of[views[-1]], figures), *(Output("the result", path, RESULT) for path in path_of.values())]
    outputs += [Output("--save_mat", config.save_mat, MAT), Output("--save_descriptors", config.save_descriptors, NPZ)]
    inputs = [*(checkpoint + ending for ending in ("", INDEX, DATA)), *pairs.sat_paths]
    check_outputs(outputs, [*inputs, *(path for of_view, _ in read_of.values() for path in of_view.grd_paths)])
    known = {**tested, "split": args.split, "toy_town": dataset.is_toy_town, "network": dataclasses.asdict(network)}
    known |= {"direction": config.direction, "precision": config.precision, "query_ids": task.digest, "counted": task.counted}
    known |= {"references": len(pairs.sat_paths), "sat_files": files_digest(pairs.sat_paths), "dataset": dataset.name}
    known_of = {each: known | seen_of(each) | {"grd_files": files} for each, (_, files) in read_of.items()}
    for each, path in path_of.items():
        check_earlier(path, known_of[each])

    started = session()
    with importing_tensorflow():
        from safa.retrieval.cost import network_cost
        from safa.retrieval.descriptors import DescriptorExtractor
        from safa.runtime.backend import explain_tensorflow_errors
        from safa.runtime.distribution import Distribution
    distribution = Distribution(config.devices, config.precision)
    say(*distribution.notes)
    with explain_tensorflow_errors(distribution, "a smaller --batch_size"), contextlib.ExitStack() as stack:
        loaded = load_network(source, network, config.precision, distribution)
        say(f"checkpoint: {loaded.path}", loaded.note)
        cost, graph = network_cost(loaded.model)
        of_network = {"checkpoint_digest": loaded.checkpoint_digest, "computation": graph}
        known_of = {each: known | of_network for each, known in known_of.items()}

        # Images to descriptors.
        extractor = DescriptorExtractor(loaded.model, distribution)
        if config.save_mat is not None:
            check_mat(config.save_mat, max(len(pairs), len(pairs.sat_paths)), extractor.dimension)
        identity = {"weights": loaded.digest, "network": known["network"], "computation": graph, "precision": config.precision}
        folder = base + DESCRIPTORS if config.descriptors == "disk" and distribution.is_chief else None
        if folder is not None:
            stack.enter_context(locked(folder, f"{folder}: {BUSY}", wait=True))
        parallel_map = stack.enter_context(worker_map(1 if view.corruption is None else available_cores() + 1, remedy=KILLED))
        computed = []
        for view in unfinished(known_of, path_of, distribution):
            begin, path = time.perf_counter(), path_of[view]
            panoramas = view.panoramas(len(pairs), network.width, loaded.model.grd.fill)
            corrupted = CorruptedPanoramas(view, read_of[view][0], parallel_map) if view.is_corrupted else None
            turns = view.turns(network.width)
            images = PairImages.of(read_of[view][0], (network.sat_shape, network.grd_shape), panoramas, corrupted=corrupted)
            grd = "grd_corrupted" if view.is_corrupted else "_".join(filter(None, ("grd", view.name)))
            computed = computed[:1]  # the references', once
            branches = ("sat", images.sat, (0,), "sat", {"view": ""}), ("grd", images.grd, turns, grd, seen_of(view))
            for branch, of_branch, turned, name, seen in branches[len(computed) :]:
                rows_path = None if folder is None else os.path.join(folder, name)
                shape, of_view = (len(of_branch.paths), len(turned) * extractor.dimension), identity | seen
                rows = ResumableRows(shape, path=rows_path, identity=of_view, sources=of_branch.paths, remedy=REMEDY)
                extractor.fill(rows, branch, of_branch, config.batch_size, pairs.name, turned)
                computed.append(rows)
            sat, grd = computed
            if not distribution.is_chief:
                continue

            # Descriptors to ranks.
            ready = time.perf_counter()
            references, queries, degrees_off = sat.rows, grd.rows, None
            if config.direction != GROUND_TO_AERIAL:
                references, queries = grd.rows, sat.rows[task.queries]
            elif len(turns) > 1:
                queries = grd.rows.reshape(len(pairs), len(turns), -1)
                degrees_off = panoramas.degrees_off(turns)
            milliseconds = sat.milliseconds and grd.milliseconds and sat.milliseconds + grd.milliseconds
            found = search(references, queries, task.truth, task.near, WINNERS, "GPU:0")
            began = next(iter(loaded.manifest.sessions), {}) if loaded.manifest else {}
            result = {
                "version": __version__,
                **known_of[view],
                "checkpoint": loaded.path,
                "run_began": [began.get("started"), began.get("command")],
                **evaluate(task, found, degrees_off),
                "cost": cost | {"milliseconds": milliseconds},
                "device": str(distribution),
                "seconds": {"descriptors": round(ready - begin, 3), "ranks": round(time.perf_counter() - ready, 3)},
                "session": started,
            }
            say(write_result(path, result))
            if view is not views[-1]:
                print(f"{view.name.replace('_', ' ')}: {recall_line(result['recall'])}", flush=True)
                continue

            # Ranks to tables, files and pictures.
            rows, notes = collect([path])
            if not rows:
                raise UserError(notes[0])
            print("", *result_lines(rows[0]), sep="\n", flush=True)
            if config.save_descriptors is not None:
                save_npz(config.save_descriptors, pairs, sat.rows, grd.rows)
            if config.save_mat is not None:
                save_mat(config.save_mat, sat.rows, grd.rows)
            grid = [grid_section(path_of)] if len(views) > 1 else []
            shown = FigureSource(images, task, config.direction, found, references, queries)
            if figures.report:
                print(f"page: {report_page(figures, path, rows[0], shown, loaded.model, grid)}", flush=True)
            draw_figures(figures, path.removesuffix(".json") + FIGURES, shown, loaded.model)


def check_view(view, config, network):
    """Refuse a QueryView that a TestConfig or NetworkConfig contradicts."""
    if not kept_columns(view.fov, network.width):
        raise UserError(f"--fov {view.fov}: less than a column of {network.width}; use a larger one")
    view.check_corruption()
    for flag in ["search_heading"] * (view.search_heading > 1) + ["corruption"] * view.is_corrupted:
        if config.direction != GROUND_TO_AERIAL:
            raise UserError(f"--{flag}: changes panoramas that are the queries; leave --direction out")
        if (config.save_descriptors, config.save_mat) != (None, None) and (flag == "search_heading" or len(view.cells) > 1):
            raise UserError(f"--{flag}: of several descriptors a query; leave --save_descriptors and --save_mat out")
