"""What all scripts' command lines share."""

from runtime.errors import UserError

import argparse
import re
import sys

LONGEST = 400  # characters of a message: it may quote a value of any length


class _Formatter(argparse.ArgumentDefaultsHelpFormatter):
    def _get_help_string(self, action):
        if action.default is None or action.default is False or "(default:" in action.help:
            return action.help
        return super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """argparse with defaults in the help, and a mistake reported as one line."""

    def __init__(self, description):
        super().__init__(description=description, formatter_class=_Formatter, allow_abbrev=False)

    def parse_args(self, args=None, namespace=None):
        for argument in sys.argv[1:] if args is None else args:
            if re.search("[\ud800-\udfff]", argument):
                raise UserError(f"{argument!r}: not UTF-8; rename this file or folder")
        return super().parse_args(args, namespace)

    def error(self, message):
        raise UserError(f"{message if len(message) <= LONGEST else message[:LONGEST] + '...'}; see --help")


def at_least(kind, low, high=None):
    """An argparse type: a finite number of `kind` that is at least `low` (and at most `high`)."""

    def parse(text):
        value = kind(text)
        if not low <= value <= (float("inf") if high is None else high) or value == float("inf"):
            raise argparse.ArgumentTypeError(
                f"{text[:40]} is not {f'at least {low}' if high is None else f'between {low} and {high}'}"
            )
        return value

    parse.__name__ = kind.__name__  # argparse's messages say "invalid int value"
    return parse


def add_folders(parser, *names):
    """Add --data_dir, --model_dir, --result_dir, those of `names`."""
    helps = {
        "data": "folder of the datasets and prepared files",
        "model": "folder of the trained networks",
        "result": "folder of the results",
    }
    for name in names:
        parser.add_argument(f"--{name}_dir", default=name.title(), type=_folder, metavar="DIR", help=helps[name])
        if name == "data":
            parser.add_argument(
                "--prepared_dir",
                type=_folder,
                metavar="DIR",
                help="folder of the prepared files, where the dataset's is read-only (default: --data_dir)",
            )


def _folder(text):
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError("a folder's name is missing")
    return text
