"""The one exception for mistakes of the user's, and how a script ends on it."""

import contextlib
import errno
import os
import re
import signal
import sys
import warnings

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # of the project
NAMED = 5  # how many of the wrong files or rows a message names
REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some space (or quota) and run the same command again"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "check the permissions, or choose another folder"),
    **dict.fromkeys((errno.EIO, errno.ESTALE), "the disk or its connection failed; check it and run the same command again"),
    **dict.fromkeys((errno.EEXIST, errno.ENOTDIR, errno.EISDIR), "it stands in the way; move it, or choose another path"),
}


class UserError(Exception):
    """A mistake that the user can put right. Its text is one clear line: which file, what is wrong, what to do."""


class Stopped(BaseException):
    """A signal ended the run. Like KeyboardInterrupt it is not an Exception, which libraries would catch.

    Attributes:
        signal: its number.
        kept: what was saved, as the line says it.
    """

    def __init__(self, number, kept="what was saved before is kept"):
        super().__init__(f"stopped by {signal.Signals(number).name}; {kept}; the same command goes on from there")
        self.signal = number


@contextlib.contextmanager
def reported():
    """Run a script's main function, as a context or its decorator: exit code 2 and a line for a `UserError` or a file that
    fails, 130 for Ctrl-C (143 for SIGTERM where a script answers that), 141 where nobody reads the output (`... | head -1`).

    Anything else is a bug and keeps its traceback. Warnings of libraries are for programmers (python -W default shows them).
    """
    os.environ["MPLBACKEND"] = "agg"  # a notebook's (!python ...) may not be installed here, and Keras imports matplotlib
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        print_nowhere(1, 2)
        sys.exit(128 + signal.SIGPIPE)
    except UserError as error:
        _end(f"error: {error}", 2)
    except Stopped as stopped:
        _end(str(stopped), 128 + stopped.signal)
    except KeyboardInterrupt:
        _end("interrupted; what was finished is kept, the same command goes on from there", 130)
    except OSError as error:
        if error.filename is None and error.errno not in (*REMEDIES, errno.ENOENT):  # `tempfile`'s, where all disks are full
            raise
        remedy = REMEDIES.get(error.errno, "check this path and the free space there, or choose another one")
        what = f"{error.filename}: {os.strerror(error.errno)}" if error.filename else error.strerror
        _end(f"error: {what}; {remedy}", 2)


def print_nowhere(*streams):
    """What is written to these file descriptors from now on, at Python's end too, goes nowhere."""
    for stream in streams:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)


def _end(line, code):
    """End the script, whose name comes first, with a line that moves no terminal's cursor, whatever it quotes."""
    folder, script = os.path.split(sys.argv[0])
    if script == "__main__.py":  # python -m toy_town
        script = os.path.basename(folder)
    print(f"{script}: {printable(line)}", file=sys.stderr)
    sys.exit(code)


def first_line(error):
    """The first line of a library's exception, short enough to be quoted in a message."""
    lines = str(getattr(error, "message", "") or error).splitlines() or [type(error).__name__]
    return re.sub(r"^\{\{.*?\}\} ?", "", lines[0])[:300]  # without the name of TensorFlow's operation


def printable(text):
    """A text with its control characters written as escapes."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def shortened(text, most=200):
    """Shorten a name that a file or a user gave until it can be quoted: no control characters, its middle left out."""
    text = printable(str(text))
    return text if len(text) <= most else f"{text[: most // 2]}[...]{text[-(most // 2) :]}"


def first_few(things):
    """The first NAMED of some files or rows, for a message."""
    return ", ".join(shortened(each, 300) for each in things[:NAMED]) + (", ..." if len(things) > NAMED else "")
