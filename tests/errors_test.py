"""How a script ends when nobody reads its output."""

import contextlib
import errno
import os
import subprocess
import sys
import types
import warnings

import pytest
from conftest import ROOT, command_of

from safa.runtime import files
from safa.runtime.command_line import Parser
from safa.runtime.errors import UserError, reported


@pytest.mark.parametrize("lines", [1, 100_000])
@pytest.mark.parametrize("end", ["at_once", "exit", "more"])
def test_a_closed_pipe_ends_a_script_without_a_word(lines, end):
    reading, writing = os.pipe()
    os.close(reading)
    outcome = subprocess.run(
        [*command_of("tests/programs/printing.py"), str(lines), end],
        env=os.environ | {"PYTHONPATH": ROOT},
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    os.close(writing)
    assert (outcome.returncode, outcome.stderr) == (141, "")


def test_a_script_before_its_requirements_are_installed_ends_in_a_line():
    for script in ("check_data.py", "data_preparation.py", "train_cvusa.py", "reproduce.py", "localize.py", "toy_town"):
        command, *words = command_of(script)
        outcome = subprocess.run([command, "-S", *words], capture_output=True, text=True, cwd=ROOT)
        assert (
            outcome.returncode == 2 and outcome.stderr.count("\n") == 1 and "lacks tensorflow, keras, numpy" in outcome.stderr
        )


def reading_of_a_broken_disk(monkeypatch):
    def read(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(files, "open", lambda *_, **__: contextlib.nullcontext(types.SimpleNamespace(read=read)), raising=False)
    files.read_file("Data/\x1b[2Ja.json")


def a_library_that_warns(_):
    warnings.warn("for programmers", stacklevel=1)
    raise UserError("named \x1b[2J\n")


@pytest.mark.parametrize(
    "fails, expected",
    [
        (reading_of_a_broken_disk, r"Data/\x1b[2Ja.json: Input/output error; the disk"),
        (a_library_that_warns, r"named \x1b[2J\n"),
    ],
)
def test_a_mistake_is_one_line_that_moves_no_cursor(monkeypatch, capsys, fails, expected):
    monkeypatch.setattr(sys, "warnoptions", [])
    with warnings.catch_warnings(), pytest.raises(SystemExit) as end, reported():
        fails(monkeypatch)
    message = capsys.readouterr().err
    assert end.value.code == 2 and expected in message and message.count("\n") == 1 and "\x1b" not in message
    with pytest.raises(UserError, match="control characters"):
        Parser("").parse_args(["--model_dir", "a\x1b[2J"])
