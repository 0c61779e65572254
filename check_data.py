"""Check a dataset before it is trained or tested on: counts, files, prepared files, leaks, pairs that do not match.

Decodes every image, and makes every prepared file again in memory to compare it. It cannot tell whether a single panorama
belongs to its tile (--figures draws some pairs to look at), whether an image is a copy of another one that was saved again, or
whether a place's position is right. It misses panoramas that are turned by 180 degrees where streets look alike ahead and
behind (it says so), and changed bytes in a JPEG that still decodes to its end (JPEG has no checksums, PNG has).
Exit code 0: nothing wrong; 1: problems, which are listed; 2: the dataset cannot be read at all.
"""

import os
import re
import sys

from safa.datasets.checked_files import checked_files
from safa.datasets.checks import check_existence, check_images, check_lists, copies, files_of, outdated
from safa.datasets.dataset import AERIAL, POLAR
from safa.datasets.file_checks import on_disk
from safa.datasets.orientation import orientation
from safa.datasets.registry import DATASETS
from safa.launch.given_data import OWN_FLAGS, Folders, given_dataset
from safa.runtime.command_line import WORKERS, Parser, add_settings, at_least
from safa.runtime.errors import NAMED, reported, shortened
from safa.runtime.files import write_json
from safa.runtime.outputs import PICTURE, Output, check_outputs
from safa.runtime.worker_pool import available_cores

FINDINGS = re.compile(rb'\{\s*"dataset": "[^"]*",\s*"pairs": ')  # how the file of --json begins
DRAWN = 12  # pairs of a split that --figures draws


def flags():
    """The script's flags."""
    parser = Parser(__doc__)
    parser.add_argument("--dataset", required=True, choices=list(DATASETS), help="dataset to check")
    add_settings(parser, Folders, ["data_dir", "prepared_dir", *OWN_FLAGS])
    parser.add_argument("--workers", type=at_least(int, 1), default=available_cores(), help=WORKERS)
    parser.add_argument("--quick", action="store_true", help="run only the checks that decode nothing")
    parser.add_argument(
        "--figures", metavar="DIR", help=f"also draw the first {DRAWN} pairs of each split, to pairs_<split>.png in this folder"
    )
    parser.add_argument("--json", metavar="FILE", help="also write all findings, with all examples, to this file")
    return parser


def main(argv=None):
    args = flags().parse_args(argv)
    kind = DATASETS[args.dataset]
    dataset = given_dataset(kind, Folders(args.data_dir, args.prepared_dir, act_data=args.act_data, labels=args.labels))
    drawn = {}
    if args.figures is not None:
        os.makedirs(args.figures, exist_ok=True)
        drawn = {split: os.path.join(args.figures, f"pairs_{split}.png") for split in dataset.splits}
    pictures = [Output("--figures", path, PICTURE) for path in drawn.values()]
    check_outputs([Output("--json", args.json, FINDINGS), *pictures])
    splits = {split: on_disk(dataset.pairs(split, AERIAL if dataset.polar_dir is None else POLAR)) for split in dataset.splits}
    files = {split: files_of(pairs) for split, pairs in splits.items()}
    checked = None if args.quick else checked_files(dataset, files.values(), args.workers)
    findings = check_lists(splits)
    for split, pairs in splits.items():
        findings += check_existence(split, files[split])
        findings += outdated(pairs) if checked is None else check_images(pairs, files[split], checked)
        if checked and dataset.is_centred and dataset.has_panoramas:
            tiles = [files[split]["tile"][row] for row in pairs.truth]
            of_pairs = zip(tiles, files[split]["panorama"], strict=True)
            findings += orientation(split, [[checked[path].colours for path in paths] for paths in of_pairs])
    findings += copies(files, checked) if checked else []
    problems = sum(finding.problem for finding in findings)
    counts = {split: len(pairs) for split, pairs in splits.items()}
    _report(f"{dataset.name} in {dataset.data_dir}", counts, findings, problems)
    if args.json is not None:
        write_json(args.json, {"dataset": dataset.name, "pairs": counts, "problems": problems, "findings": findings})
    for split, path in drawn.items():
        from safa.report.pair_sheet import draw_pairs

        draw_pairs(splits[split], range(min(DRAWN, len(splits[split]))), path)
        print(f"the first pairs of {split}: {path}", flush=True)
    return 1 if problems else 0


def _report(title, counts, findings, problems):
    print(f"{title}: " + ", ".join(f"{count:,} pairs for {split}" for split, count in counts.items()))
    for finding in sorted(findings, key=lambda finding: not finding.problem):
        print(f"{'PROBLEM' if finding.problem else 'note   '}  {finding.split}: {finding.count:,} {finding.text}")
        for example in finding.examples[:NAMED]:
            print(f"           {shortened(example, 300)}")
        if len(finding.examples) > NAMED:
            print(f"           ... {len(finding.examples) - NAMED:,} more")
    print(f"{problems} kinds of problems" if problems else "no problems found", flush=True)


if __name__ == "__main__":
    with reported():
        sys.exit(main())
