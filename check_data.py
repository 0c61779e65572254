"""Check a dataset before it is trained or tested on: counts, files, prepared files, leaks, pairs that do not match.

Decodes every image, and makes every prepared file again in memory to compare it. What it cannot tell: whether a single
panorama belongs to its tile, where the ground around looks alike everywhere; whether a panorama is turned by 180 degrees,
where streets look alike ahead and behind (it says so); whether an image is a copy of another one that was saved again;
whether a place's position is right; that a JPEG's bytes were changed where it still decodes to its end (JPEG has no
checksums, PNG has).
Exit code 0: nothing wrong; 1: problems, which are listed; 2: the dataset cannot be read at all.
"""

import dataclasses
import functools
import json
import os
import sys

from tqdm import tqdm

from safa.datasets.checks import check_images, check_lists, check_pair, copies, missing, outdated
from safa.datasets.file_checks import resolve_case
from safa.datasets.orientation import orientation
from safa.datasets.preparation import PREPARED_SIZE
from safa.datasets.registry import DATASETS
from safa.runtime.command_line import WORKERS, Parser, add_settings, at_least, check_output
from safa.runtime.errors import UserError, reported, shortened
from safa.runtime.files import write_whole
from safa.runtime.worker_pool import available_cores, worker_map
from safa.settings import Folders

TITLES = "aerial tiles", "panoramas", "polar maps", "prepared panoramas"
DRAWN = 12  # pairs of a kind that --figures draws
NAMED = 5  # examples that the report names; --json has all


def flags():
    """The script's flags."""
    parser = Parser(__doc__)
    parser.add_argument("--dataset", required=True, choices=list(DATASETS), help="what to check")
    add_settings(parser, Folders, ["data_dir", "prepared_dir"])
    parser.add_argument("--act_data", metavar="FILE.mat", help="ACT_data.mat (default: the one in the dataset's folder)")
    parser.add_argument("--workers", type=at_least(int, 1), default=available_cores(), help=WORKERS)
    parser.add_argument("--quick", action="store_true", help="only what needs no image to be decoded")
    parser.add_argument(
        "--figures",
        metavar="DIR",
        help=f"also draw pairs that look mirrored, turned, swapped or unlike, up to {DRAWN} a kind, to suspicious_<split>.png "
        "in this folder",
    )
    parser.add_argument("--json", metavar="FILE", help="also write all findings, with all examples, to this file")
    return parser


def main():
    args = flags().parse_args()
    kind = DATASETS[args.dataset]
    if args.act_data and not kind.has_act_data:
        raise UserError(f"--act_data: {kind.name} has none; leave it out")
    check_output("--json", args.json)
    if args.figures is not None:
        if args.quick:
            raise UserError("--figures: what it draws is found by decoding images; leave --quick out")
        os.makedirs(args.figures, exist_ok=True)
    dataset = kind(args.data_dir, args.prepared_dir, **({"act_data": args.act_data} if args.act_data else {}))
    splits = {split: dataset.pairs(split) for split in dataset.splits}
    findings = check_lists(dataset, splits)
    if args.quick:
        for split in splits:
            findings += _check_quickly(_paths(dataset, split), split)
        suspicious = {}
    else:
        results = {split: _check_files(dataset, split, args.workers) for split in splits}
        suspicious = {
            split: orientation(pairs, [result.colours for result in results[split]]) for split, pairs in splits.items()
        }
        for split, pairs in splits.items():
            findings += _findings(dataset, pairs, results[split]) + suspicious[split]
        findings += copies(results, TITLES)
    _report(dataset, splits, findings)
    problems = [finding for finding in findings if finding.problem]
    if args.json is not None:
        write_whole(
            args.json,
            json.dumps(
                {
                    "dataset": dataset.name,
                    "pairs": {split: len(pairs) for split, pairs in splits.items()},
                    "problems": len(problems),
                    "findings": [dataclasses.asdict(finding) for finding in findings],
                },
                indent=2,
            ).encode(),
        )
    if args.figures is not None:
        for split, pairs in splits.items():
            draw_suspicious(pairs, suspicious[split], args.figures)
    return 1 if problems else 0


def _paths(dataset, split):
    """The four kinds of files of each pair, as they are written on disk."""
    return list(zip(*map(resolve_case, zip(*dataset.files(split), strict=True)), strict=True))


def _check_quickly(paths, split):
    findings = outdated(split, _made(paths))
    for number, title in enumerate(TITLES):
        of_kind = [each[number] for each in paths if each[number] is not None]
        findings += missing(split, title, [path for path in of_kind if not os.path.exists(path)])
    return findings


def _check_files(dataset, split, workers):
    """A CheckedPair for each pair."""
    paths = _paths(dataset, split)
    of_panoramas = [job.transform for job in dataset.preparations() if job.transform]
    check = functools.partial(check_pair, of_panoramas[0] if of_panoramas else None)
    with worker_map(min(workers, -(-len(paths) // 16)), chunksize=4) as parallel_map:
        return list(
            tqdm(
                parallel_map(check, paths), f"{dataset.name} {split}", total=len(paths), unit="pair", leave=False, disable=None
            )
        )


def _findings(dataset, pairs, results):
    # Times say nothing of a file that was just found to be what its source gives.
    unproved = []
    for result in results:
        tile, panorama, polar, prepared = (file and file["path"] for file in result.files)
        unproved.append(
            (tile, panorama, polar if result.origin in (None, "other") else None, None if result.panorama_agrees else prepared)
        )
    sizes = dataset.tile_size, dataset.panorama_size, PREPARED_SIZE, PREPARED_SIZE
    return outdated(pairs.split, _made(unproved)) + check_images(pairs, results, TITLES, sizes)


def draw_suspicious(pairs, findings, folder):
    """Write a contact sheet of the pairs of these findings of `orientation`, where there are some."""
    from safa.report.canvas import save_png
    from safa.report.suspicious_pairs import pair_card, suspicious_sheet

    row_of = {name: row for row, name in enumerate(pairs.ids)}
    cards = []
    for finding in findings:
        # What is wrong with a whole split has no examples: its first pairs show it.
        names = finding.examples or (pairs.ids if finding.problem else ())
        for name in names[:DRAWN]:
            row = row_of[name]
            cards.append(
                pair_card(
                    name,
                    f"looks {finding.check.removesuffix(' pairs')}",
                    pairs.tile_paths[pairs.truth[row]],
                    pairs.grd_paths[row],
                )
            )
    if cards:
        path = os.path.join(folder, f"suspicious_{pairs.split}.png")
        save_png(path, suspicious_sheet(cards))
        print(f"{len(cards)} suspicious pairs: {path}", flush=True)


def _made(paths):
    """(source, prepared file) of the four kinds of files."""
    made = [(each[kind], each[kind + 2]) for each in paths for kind in (0, 1)]
    return [(source, prepared) for source, prepared in made if prepared is not None]


def _report(dataset, splits, findings):
    print(
        f"{dataset.name} in {dataset.data_dir}: "
        + ", ".join(f"{len(pairs):,} pairs for {split}" for split, pairs in splits.items())
    )
    for finding in sorted(findings, key=lambda finding: not finding.problem):
        split = f"{finding.split}: " if finding.split else ""
        print(f"{'PROBLEM' if finding.problem else 'note   '}  {split}{finding.count:,} {finding.text}")
        for example in finding.examples[:NAMED]:
            print(f"           {shortened(example, 300)}")
        if len(finding.examples) > NAMED:
            print(f"           ... {len(finding.examples) - NAMED:,} more")
    problems = sum(finding.problem for finding in findings)
    print(f"{problems} kinds of problems" if problems else "no problems found", flush=True)


if __name__ == "__main__":
    with reported():
        sys.exit(main())
