"""What all scripts' command lines share, and settings that are written once: field, flag, help and check together."""

import argparse
import dataclasses
import re
import sys

from safa.runtime.errors import UserError

WORKERS = "processes (default: as many as cores)"
LONGEST = 400  # characters of a message: it may quote a value of any length


class _Formatter(argparse.ArgumentDefaultsHelpFormatter):
    def _get_help_string(self, action):
        if action.default is None or action.default is False or "(default:" in action.help:
            return action.help
        return super()._get_help_string(action)


class _Adding(argparse.Action):
    """Of a flag that takes several values: given again, it adds to those before."""

    def __call__(self, parser, namespace, values, option_string=None):
        before = getattr(namespace, self.dest)
        setattr(namespace, self.dest, values if before is self.default else [*before, *values])


class Parser(argparse.ArgumentParser):
    """argparse with defaults in the help, and a mistake reported as one line."""

    def __init__(self, description, **others):
        super().__init__(description=description, formatter_class=_Formatter, allow_abbrev=False, **others)

    def add_argument(self, *names, **given):
        return super().add_argument(*names, **({"action": _Adding} if given.get("nargs") == "+" else {}), **given)

    def parse_args(self, args=None, namespace=None):
        for argument in sys.argv[1:] if args is None else args:
            if re.search("[\x00-\x1f\x7f-\x9f\ud800-\udfff]", argument):
                raise UserError(f"{argument!r}: holds control characters, or is not UTF-8; rename this file or folder")
        return super().parse_args(args, namespace)

    def error(self, message):
        raise UserError(f"{message if len(message) <= LONGEST else message[:LONGEST] + '...'}; see --help")


def at_least(kind, low, high=None):
    """An argparse type: a finite number of `kind` that is at least `low` (and at most `high`)."""

    def parse(text):
        value = kind(text)
        if not low <= value <= (float("inf") if high is None else high) or value == float("inf"):
            bounds = f"at least {low}" if high is None else f"between {low} and {high}"
            raise argparse.ArgumentTypeError(f"{text[:40]} is not {bounds}")
        return value

    parse.__name__ = kind.__name__  # argparse's messages say "invalid int value"
    return parse


def matching(pattern, meaning):
    """An argparse type: a text that a regular expression matches whole; `meaning`: what it is, for the message."""

    def parse(text):
        if not re.fullmatch(pattern, text):
            raise argparse.ArgumentTypeError(f"{text[:40]!r} is not {meaning}")
        return text

    return parse


def setting(default, meaning, parse=str, *, choices=None, metavar=None, paper=None):
    """A field of a settings dataclass, with everything that its flag, its help and its check need.

    Args:
        default: the field's default. False makes a flag without a value.
        meaning: for the help, without default and paper's value.
        parse, choices, metavar: as of argparse's `add_argument`, where `parse` is called type.
        paper: the paper's value, as text.
    """
    texts = {"meaning": meaning, "parse": parse, "choices": choices, "metavar": metavar, "paper": paper}
    return dataclasses.field(default=default, metadata=texts)


def same_setting(kind, name):
    """A field like the one of that name in another settings dataclass."""
    field = kind.__dataclass_fields__[name]
    return dataclasses.field(default=field.default, metadata=field.metadata)


def add_settings(parser, kind, only=None, unset=None):
    """Add a flag for each setting of a dataclass.

    Args:
        parser: argparse parser or group.
        kind: dataclass whose fields are made by `setting`.
        only: names of the settings to add (default: all).
        unset: for the help of flags that are None where they are not given: what decides then.
    """
    for field in dataclasses.fields(kind):
        if only is not None and field.name not in only:
            continue
        texts = field.metadata
        meaning = texts["meaning"] + (f" (paper: {texts['paper']})" if texts["paper"] else "")
        if field.default is False:
            parser.add_argument(f"--{field.name}", action="store_true", help=meaning)
            continue
        default = field.default
        if unset is not None:
            default, meaning = None, f"{meaning} (default: {unset})"
        others = {name: texts[name] for name in ("choices", "metavar")}
        parser.add_argument(f"--{field.name}", type=texts["parse"], default=default, help=meaning, **others)


def parsed(kind, args):
    """The settings of a dataclass that parsed flags hold."""
    return kind(**{field.name: getattr(args, field.name) for field in dataclasses.fields(kind)})


def as_flags(config):
    """The inverse of `parsed`: the words of a command line that give a dataclass's settings, without those at their default."""
    words = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if value != field.default:
            words += [f"--{field.name}"] if value is True else [f"--{field.name}", str(value)]
    return words


class Checked:
    """Base of settings dataclasses: no instance holds a value that no flag could have set, wherever it comes from."""

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value, choices = getattr(self, field.name), field.metadata["choices"]
            if isinstance(value, bool) != (field.default is False):
                raise ValueError(f"{field.name} is {value!r}")
            if value is None and field.default is None or isinstance(value, bool):
                continue
            try:
                same = field.metadata["parse"](str(value)) == value
            except argparse.ArgumentTypeError as error:
                raise ValueError(f"{field.name}: {error}") from None
            if not same or choices is not None and value not in choices:
                known = f", not one of {', '.join(map(str, choices))}" if choices is not None else ""
                raise ValueError(f"{field.name} is {str(value)[:40]!r}{known}")
