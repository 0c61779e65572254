"""Evaluate descriptors that were computed elsewhere, by PyTorch for instance, as the test scripts evaluate this project's.

FILE.npz or FILE.mat holds sat_descriptors and grd_descriptors (or sat_global_descriptor and grd_global_descriptor), a row an
image, and perhaps ids, a text a query; two .npy files hold the references' and the queries'. Prints a table and writes
Result/<DATASET>/descriptors/<NAME>.json, a result as those of the test scripts: recall_tables.py shows and compares it.
"""

import collections
import hashlib
import os
import re
import types

import numpy as np

from safa import __version__
from safa.datasets.dataset import AERIAL, Pairs
from safa.datasets.pair_images import PairImages
from safa.datasets.registry import DATASETS
from safa.launch.given_data import OWN_FLAGS, Folders, given_dataset
from safa.launch.page import page_output, report_page
from safa.launch.testing import TestConfig
from safa.report.figures import FigureConfig, FigureSource
from safa.report.result_file import RECALLS, RESULT, check_earlier, write_result
from safa.report.result_lines import result_lines
from safa.report.rows import collect
from safa.retrieval.evaluation import WINNERS, evaluate
from safa.retrieval.saved_descriptors import read_descriptors, read_truth, row_lengths
from safa.retrieval.search import search
from safa.retrieval.task import GROUND_TO_AERIAL, task_of
from safa.runtime.cluster import say
from safa.runtime.command_line import Parser, add_settings, matching
from safa.runtime.errors import UserError, first_few, reported
from safa.runtime.outputs import Output, check_outputs
from safa.runtime.provenance import session

LENGTH_ERROR = 1e-3  # of a descriptor of length 1, in float16 too
NAMED = "up to 60 letters, digits, {}'.', '_', '+' and '-', a letter or digit first"
NAME = matching(r"\w[\w .+-]{0,59}(?<! )", NAMED.format("spaces but at the end, "))
SPLIT = matching(r"\w[\w.+-]{0,59}", NAMED.format(""))
K = matching("1%|[1-9][0-9]{0,6}", "1% or a whole number")
ROWS = "lines with the row of each query's reference, from 0, and of other hits (default: row i of both is one place)"


def flags():
    """The script's flags."""
    parser = Parser(__doc__)
    parser.add_argument("files", nargs="+", metavar="FILE", help="FILE.npz, FILE.mat, or SAT.npy GRD.npy")
    lists = f"dataset; the list of {', '.join(DATASETS)} in --data_dir has the queries' ids and coordinates"
    parser.add_argument("--dataset", type=NAME, required=True, help=lists)
    parser.add_argument("--split", type=SPLIT, help="split of the dataset (default: its last, val or test)")
    parser.add_argument("--name", type=NAME, help="name of the network, for tables (default: the file's)")
    parser.add_argument("--trained_on", type=NAME, metavar="DATASET", help="dataset of the training (default: the same)")
    parser.add_argument("--truth", metavar="FILE.txt", help=ROWS)
    parser.add_argument("--normalise", action="store_true", help="divide each descriptor by its length")
    parser.add_argument("--report", action="store_true", help="also write one page that shows the result")
    add_settings(parser, TestConfig, ["seed", "direction", "radius"])
    at = "K of the printed recalls (default: 1 5 10 1%%)"
    parser.add_argument("--recall_at", nargs="+", type=K, default=RECALLS, metavar="K", help=at)
    add_settings(parser, Folders, ["data_dir", "result_dir", *OWN_FLAGS])
    return parser


def main():
    args = flags().parse_args()
    folders = Folders(args.data_dir, result_dir=args.result_dir, act_data=args.act_data, labels=args.labels)
    if len(args.files) > 2 or len({*args.files}) == 1 and args.files[-1].endswith(".npy"):
        raise UserError(f"{first_few(args.files)}: name one .npz or .mat file, or two .npy files")
    sat, grd, ids, truth = read_descriptors(args.files)
    counts = len(sat), len(grd)
    pairs = pairs_of(args.dataset, args.split, folders, first_few(args.files), counts, ids, truth, args.truth)
    task = task_of(pairs, args.direction, args.radius)
    stem = os.path.splitext(os.path.basename(args.files[0]))[0]
    dataset, name = pairs.dataset, args.name or re.sub(r"^\W|[^\w.+-]", "_", stem)[:60]
    trained_on = args.trained_on and getattr(DATASETS.get(args.trained_on.lower()), "name", args.trained_on)
    trained_on = None if trained_on in (dataset.name, dataset.name.removesuffix("_test")) else trained_on  # the default
    special = {"seed_": args.seed, "trained_on_": trained_on, "": args.direction.replace(GROUND_TO_AERIAL, "")}
    path = "_".join([name, *(f"{kind}{value}" for kind, value in special.items() if value)])
    path = os.path.join(folders.result_dir, dataset.name, "descriptors", f"{path}.json")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    check_outputs([Output("the result", path, RESULT), page_output(path, args)], args.files)
    tested = {"version": __version__, "dataset": dataset.name, "split": pairs.split, "toy_town": dataset.is_toy_town}
    tested |= {"name": name, "network": None, "cost": None, "run": None, "seed": args.seed, "trained_on": trained_on}
    tested |= {"direction": args.direction, "view": "", "normalised": args.normalise, "session": session()}
    tested["checkpoint"] = ", ".join(args.files)
    check_earlier(path, tested, "--name", [] if args.name else ["checkpoint"])

    digest = hashlib.sha256(sat)
    digest.update(grd)
    used = []
    for rows, what in (sat, "references"), (grd, "queries"):
        lengths = row_lengths(rows)
        if args.normalise and not lengths.all():
            raise UserError(f"--normalise: {np.count_nonzero(lengths == 0):,} {what} are 0 and have no direction; leave it out")
        if not args.normalise and (wrong := np.count_nonzero(abs(lengths - 1) > LENGTH_ERROR)):
            print(f"warning: {wrong:,} of {len(rows):,} {what} are not of length 1, as cosines need; --normalise divides by it")
        # A power of two changes no order, and brings lengths to where `search` tells differences from rounding.
        power = round(np.log2(lengths.max() or 1))
        used.append((rows / lengths).astype(np.float32) if args.normalise else np.ldexp(rows, -power) if power else rows)
    references, queries = used if args.direction == GROUND_TO_AERIAL else (used[1], used[0][task.queries])
    found = search(references, queries, task.truth, task.near, WINNERS)
    say(write_result(path, tested | {"checkpoint_digest": digest.hexdigest()} | evaluate(task, found)))
    (row,), _ = collect([path])
    print(*result_lines(row, args.recall_at), f"written to {path}", sep="\n", flush=True)
    if args.report:
        shown = FigureSource(PairImages.of(pairs, (None, None)), task, args.direction, found, references, queries)
        print(f"page: {report_page(FigureConfig(report=True), path, row, shown, None)}")


def pairs_of(name, split, folders, files, counts, ids, truth, truth_file):
    """The datasets.dataset.Pairs that descriptors are of.

    Args:
        name, split: of the dataset; None: its last split.
        folders: Folders.
        files: names of the descriptors' files, for messages.
        counts: N references and Q queries.
        ids, truth: of `read_descriptors`.
        truth_file: of `read_truth`, or None.
    """
    known, acceptable = DATASETS.get(name.lower()), None
    if known is None:
        if folders != Folders(result_dir=folders.result_dir):
            raise UserError(f"--data_dir, --act_data, --labels: lists of {', '.join(DATASETS)}, not of {name}; leave them out")
        if truth_file is not None:
            truth, acceptable = read_truth(truth_file, *counts)
        elif truth is None and counts[0] != counts[1]:
            raise UserError(f"{files}: {counts[0]:,} references and {counts[1]:,} queries; name those that match with --truth")
        dataset = types.SimpleNamespace(name=name, hit_metres=None, is_toy_town=False)  # all that is known of it
        nowhere = [[""] * count for count in (*counts, counts[0])]
        ids = ids or [str(row) for row in range(counts[1])]
        return Pairs(dataset, split or "test", AERIAL, ids, *nowhere, truth=truth, acceptable=acceptable)
    split = split or known.splits[-1]
    if split not in known.splits:
        raise UserError(f"--split {split}: {known.name} has {', '.join(known.splits)}")
    if truth_file is not None:
        raise UserError(f"--truth {truth_file}: the list of {known.name} says which reference is a query's; leave it out")
    pairs = given_dataset(known, folders).pairs(split, AERIAL)
    if ids not in (None, pairs.ids):
        row_of = {each: row for row, each in enumerate(pairs.ids)}
        if wrong := [name for name, count in collections.Counter(ids).items() if name not in row_of or count > 1]:
            raise UserError(f"{files}: {len(wrong):,} ids are not of {pairs.name}, or stand twice: {first_few(wrong)}")
        pairs = pairs.take([row_of[name] for name in ids], None if pairs.one_to_one else np.arange(len(pairs.sat_paths)))
    expected = len(pairs.sat_paths), len(pairs)
    if counts != expected or truth is not None and not np.array_equal(truth, pairs.truth):
        shown = [f"{references:,} references, {queries:,} queries" for references, queries in (counts, expected)]
        raise UserError(f"{files}: {shown[0]}; {pairs.name} has {shown[1]}, or another truth; write ids if some are left out")
    return pairs


if __name__ == "__main__":
    with reported():
        main()
