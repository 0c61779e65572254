"""The flags of a test's figures, and what they ask for."""

import argparse

from safa.datasets.pair_images import PairImages
from safa.report.figures import WITH_ATTENTION, chosen_queries, draw_attention, draw_retrievals, draw_similarities
from safa.retrieval.task import GROUND_TO_AERIAL
from safa.runtime.command_line import at_least
from safa.runtime.errors import UserError


def add_figures(parser):
    """Add the flags of figures to a test script's parser."""
    group = parser.add_argument_group("figures", "written to a folder beside the result file, after the numbers")
    group.add_argument(
        "--figures",
        type=at_least(int, 1),
        metavar="N",
        help="draw N queries with their five best references and the true one, a contact sheet of all, and a histogram of "
        "similarities (default: none)",
    )
    group.add_argument(
        "--attention",
        type=at_least(int, 1),
        metavar="N",
        help="draw for N queries and their best match what the descriptors rest on: each position's part of the similarity, "
        "and the position weights of all embeddings (default: none)",
    )
    group.add_argument(
        "--report",
        action="store_true",
        help="write one page that shows the test, beside the result file: recalls, curves, figures (as many as --figures and "
        "--attention say, else a few), the worst queries, settings and versions",
    )
    group.add_argument("--only_wrong", action="store_true", help="draw only queries whose best reference is no hit")
    group.add_argument(
        "--queries",
        type=_ids,
        metavar="ID,ID",
        help="draw these queries (default: drawn at random, the same ones in every test)",
    )


def _ids(text):
    ids = [name.strip() for name in text.split(",")]
    if not all(ids):
        raise argparse.ArgumentTypeError(f"{text!r} are no ids with a comma between any two")
    return ids


def check_figures(args, task, network, view):
    """Refuse flags of figures that contradict the test's.

    Args:
        args: parsed flags.
        task: retrieval.task.Task.
        network: settings.NetworkConfig.
        view: datasets.panorama_views.PanoramaView.

    Raises:
        UserError: with the flag.
    """
    wanted = args.figures or args.attention or args.report
    for flag in "only_wrong", "queries":
        if getattr(args, flag) and not wanted:
            raise UserError(f"--{flag}: chooses queries to draw; use --figures, --attention or --report with it")
    if args.queries and args.only_wrong:
        raise UserError("--queries: names what is drawn; leave --only_wrong out")
    if args.queries:
        chosen_queries(task, None, args.queries)
    if args.attention and (args.direction != GROUND_TO_AERIAL or view.search_heading > 1):
        raise UserError(
            "--attention: of panoramas among aerial images, with one turn; leave --direction and --search_heading out"
        )
    if args.attention and network.aggregation[0] not in WITH_ATTENTION:
        raise UserError(f"--attention: {network.network_type} has no position weights and no maximum; leave it out")


def draw_figures(args, folder, tested, model, shapes):
    """Write the figures that parsed flags ask for, and say where.

    Args:
        folder: for the files.
        tested: FigureSource.
        model: keras.Model with the tested weights.
        shapes: (height, width) of its inputs.
    """
    among = tested.ranks > 0 if args.only_wrong else None
    if among is not None and not among.any():
        print("no query is wrong: nothing to draw", flush=True)
        return
    paths = []
    if args.figures:
        paths += draw_retrievals(folder, tested, chosen_queries(tested.task, args.figures, args.queries, among))
        paths.append(draw_similarities(folder, tested))
    if args.attention:
        rows = chosen_queries(tested.task, args.attention, args.queries, among)
        paths += draw_attention(folder, tested, rows, model, PairImages.of(tested.pairs, shapes, tested.turned))
    if paths:
        print(f"{len(paths)} figures in {folder}", flush=True)
