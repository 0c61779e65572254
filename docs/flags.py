"""Writes docs/flags.md from the scripts' own flags. Run from the repository's root: python -m docs.flags"""

import argparse
import os

import check_data
import convert_weights
import data_preparation
import recall_tables
import toy_town.dataset
import toy_town.district
import training_curves
from safa.datasets.cvact import CVACT, CVACTTest
from safa.datasets.cvusa import CVUSA
from safa.launch import testing_parser, training_parser
from safa.launch.localization import localization_parser
from safa.launch.reproduction import reproduction_parser

PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "flags.md")
HEAD = """# Flags

Every script prints its own with `--help`; this page is made from them (`python -m docs.flags`). *train* and *test* are the
scripts of both datasets. Test scripts take sizes and backbone from the settings beside the checkpoint.

| flag | scripts | default | meaning |
| --- | --- | --- | --- |
"""
BOTH = {"train": ("train_cvusa.py", "train_cvact.py"), "test": ("test_cvusa.py", "test_cvact.py")}


def parsers():
    """{script: its argparse parser}, in the order of use."""
    steps = localization_parser("")._subparsers._group_actions[0].choices
    return {
        "toy_town": toy_town.dataset.parser(),
        "toy_town.district": toy_town.district.parser(),
        "data_preparation.py": data_preparation.flags(),
        "check_data.py": check_data.flags(),
        "train_cvusa.py": training_parser("", CVUSA),
        "train_cvact.py": training_parser("", CVACT),
        "test_cvusa.py": testing_parser("", {"val": CVUSA}),
        "test_cvact.py": testing_parser("", {"val": CVACT, "test": CVACTTest}),
        "reproduce.py": reproduction_parser(""),
        "recall_tables.py": recall_tables.flags(),
        "training_curves.py": training_curves.flags(),
        **{f"localize.py {name}": parser for name, parser in steps.items()},
        "convert_weights.py": convert_weights.flags(),
    }


def page():
    """The text of docs/flags.md."""
    scripts_of = {}
    for script, parser in parsers().items():
        for action in parser._actions:
            if action.option_strings and action.dest != "help":
                scripts_of.setdefault(_row(action), []).append(script)
    rows = sorted(scripts_of.items(), key=lambda item: len(item[1]) < 2)  # stable: what several scripts share comes first
    return HEAD + "".join(f"| {flag} | {_scripts(names)} | {default} | {text} |\n" for (flag, default, text), names in rows)


def _row(action):
    """Flag, default and meaning of an argparse action."""
    value = action.metavar or (f"{{{','.join(map(str, action.choices))}}}" if action.choices else "")
    value = value if isinstance(value, str) else " ".join(value)
    flag = ", ".join(f"`{' '.join(filter(None, (name, value)))}`" for name in action.option_strings)
    meaning, _, default = action.help.partition(" (default: ")
    if default:
        default, _, rest = default.partition(")")
        meaning += rest
    elif all(action.default is not each for each in (None, False, argparse.SUPPRESS)):
        default = f"`{action.default}`"
    return tuple(text.replace("|", "\\|").replace("\n", " ") for text in (flag, default, meaning))


def _scripts(names):
    for title, both in BOTH.items():
        if set(both) <= set(names):
            names = [title if name == both[0] else name for name in names if name != both[1]]
    return ", ".join(name if name in BOTH else f"`{name}`" for name in names)


if __name__ == "__main__":
    with open(PAGE, "w", encoding="utf-8") as file:
        file.write(page())
