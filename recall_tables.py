"""Collect the result files of tests into the paper's tables, and curves of recall@K; or compare two results.

Prints a table for each dataset, and with --output writes it as tables.md, tables.tex (booktabs, siunitx; sources in tables.bib)
and tables.csv, beside curves.png and curves.pdf, and training.png with loss and recall over the epochs of all runs. Results
that differ in their seed only are one row, with mean and standard deviation. Published recalls stand below the rows that they
compare with; the paper's other rows are not known as numbers.
"""

import re

from safa.datasets.registry import DATASETS
from safa.report.authors_recalls import read_recalls
from safa.report.comparison import AGAINST, compare
from safa.report.corruption_tables import corruption_tables
from safa.report.epoch_lines import find_runs
from safa.report.result_file import find_results
from safa.report.rows import ALL, choose, collect
from safa.report.table_files import write_tables
from safa.report.table_formats import AT, COLUMNS, as_text, tables_of
from safa.runtime.command_line import Parser, matching
from safa.runtime.errors import UserError, first_few, reported

COLUMN = matching(rf"{'|'.join(map(re.escape, COLUMNS))}|{AT}[1-9]\d{{0,6}}", f"one of {', '.join(COLUMNS)}, or R@K")
LABEL = matching("[A-Za-z0-9:._-]+", "made of letters, digits, ':', '.', '_' and '-'")


def flags():
    """The script's flags."""
    parser = Parser(__doc__)
    parser.add_argument(
        "--result_dir", nargs="+", default=["Result"], metavar="DIR", help="folders, with all below them (default: Result)"
    )
    parser.add_argument("--output", metavar="DIR", help="folder for tables and curves (default: only print)")
    parser.add_argument("--others", action="store_true", help="also list other systems' published recalls, where they compare")
    parser.add_argument(
        "--authors_curve",
        nargs="+",
        default=[],
        metavar="DATASET=FILE",
        help="draw the authors' complete recalls, which their page links, beside: a .mat, .npy or text file of recall@1, @2, "
        "..., for instance cvusa=FILE.mat; a 0 before them is recall@0 (default: none)",
    )
    rows = "rows in this order, by their printed titles, perhaps with * in them; =NEW renames one (default: all)"
    parser.add_argument("--rows", nargs="+", type=_renamed, metavar="TITLE[=NEW]", help=rows)
    columns = f"columns in this order, R@K at any K; =NEW renames one (default: {', '.join(COLUMNS)})".replace("%", "%%")
    parser.add_argument("--columns", nargs="+", type=_column, metavar="NAME[=NEW]", help=columns)
    parser.add_argument("--caption", metavar="TEXT", help="caption of the one table, instead of its title (default: none)")
    parser.add_argument("--label", type=LABEL, metavar="NAME", help="LaTeX label of the one table (default: none)")
    against = "title of a row; R@1 of the others of several seeds is tested against it (Welch's t-test; default: none)"
    parser.add_argument("--against", metavar="TITLE", help=against)
    parser.add_argument(
        "--compare",
        nargs=2,
        metavar="FILE.json",
        help="say whether two results on the same queries differ (McNemar's exact test), and nothing else",
    )
    return parser


def main():
    parser = flags()
    args = parser.parse_args()
    if args.compare is not None:
        for flag in [each for each in vars(args) if each != "compare"]:
            if getattr(args, flag) != parser.get_default(flag):
                raise UserError(f"--{flag}: has no meaning beside --compare; leave it out")
        print(compare(*args.compare))
        return
    if args.authors_curve and args.output is None:
        raise UserError("--authors_curve: it is drawn among the curves of --output; name a folder for them")
    authors = dict(curves := [_authors_curve(text) for text in args.authors_curve])
    if len(authors) < len(curves):
        raise UserError("--authors_curve: names a dataset twice; leave one of them out")
    found, notes = collect(find_results(args.result_dir))
    print(*notes, sep="\n", end="\n" if notes else "")
    folders = ", ".join(args.result_dir)
    if not found:
        raise UserError(f"{folders}: no results of tests; run test_cvusa.py or test_cvact.py first")
    for dataset in authors.keys() - {row.kind.dataset for row in found if not row.kind.toy_town}:
        raise UserError(f"--authors_curve {dataset.lower()}: no results of it in {folders}; leave it out")
    chosen = dict(args.rows or ALL.items())
    rows = choose(found, chosen)
    plain = [row for row in rows if row.kind.corruption[1] is None]
    tables = tables_of(plain, args.others, args.columns and dict(args.columns), chosen, args.against)
    tables += corruption_tables(rows, found)
    if args.against is not None and not any(note.startswith(AGAINST) for table in tables for note in table.notes):
        several = [row.title() for row in plain if len(row.results) > 1]
        what = f"there are {first_few(several)}" if several else "there is none of several seeds"
        raise UserError(f"--against {args.against}: no row of several seeds of this title, with others on its task; {what}")
    for flag in "caption", "label":
        if getattr(args, flag) is not None and (args.output is None or len(tables) != 1):
            raise UserError(f"--{flag}: of one table of --output, and there are {len(tables)}; name one dataset's --result_dir")
    print(as_text(tables), flush=True)
    if args.output is not None:
        written = write_tables(args.output, tables, rows, authors, find_runs(args.result_dir), args.caption, args.label)
        print(f"\nwritten to {args.output}: {', '.join(written)}")


def _renamed(text):
    """(name, new name or "") of NAME[=NEW]."""
    return text.partition("=")[::2]


def _column(text):
    name, shown = _renamed(text)
    return COLUMN(name), shown or name


def _authors_curve(text):
    dataset, _, path = text.partition("=")
    if dataset.lower() not in DATASETS or not path:
        raise UserError(f"--authors_curve {text}: not {{{','.join(DATASETS)}}}=FILE; see --help")
    return DATASETS[dataset.lower()].name, read_recalls(path)


if __name__ == "__main__":
    with reported():
        main()
