"""Draw loss and recall over the epochs of one or several training runs, finished or not, from their CSV files."""

import os

from safa.report.charts import training_curves
from safa.report.drawing import file_bytes
from safa.report.epoch_lines import find_runs, read_lines
from safa.runtime.command_line import Parser
from safa.runtime.errors import UserError, first_few, reported
from safa.runtime.files import write_whole
from safa.runtime.outputs import PICTURE, Output, check_outputs


def flags():
    """The script's flags."""
    parser = Parser(__doc__)
    parser.add_argument(
        "runs",
        nargs="*",
        default=["Result"],
        metavar="FILE.csv",
        help="files that training wrote below --result_dir, or folders, with all such files below them (default: Result)",
    )
    parser.add_argument("--output", default="training.png", metavar="FILE.png", help="the picture (default: training.png)")
    return parser


def main():
    args = flags().parse_args()
    check_outputs([Output("--output", args.output, PICTURE)])
    if not args.output.endswith(".png"):
        raise UserError(f"--output {args.output}: a PNG file is written; name it FILE.png")
    runs = {}
    for path in args.runs:
        found = find_runs([path]) if os.path.isdir(path) else {path.removesuffix(".csv"): read_lines(path)}
        if not all(found.values()) or not found:
            raise UserError(f"{path}: no epochs of a training run; name a file or folder that train_*.py wrote to")
        runs |= {os.path.abspath(name): lines for name, lines in found.items()}
    common = os.path.commonpath([os.path.dirname(name) for name in runs])
    named = {os.path.relpath(name, common): lines for name, lines in runs.items()}
    write_whole(args.output, file_bytes(training_curves(named)))
    print(f"{args.output}: {first_few(list(named))}")


if __name__ == "__main__":
    with reported():
        main()
