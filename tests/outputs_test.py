"""What a command writes replaces nothing but its own earlier outputs; and how it ends, also when nobody reads its output."""

import contextlib
import errno
import os
import pathlib
import subprocess
import sys
import types
import warnings

import pytest
from conftest import ROOT, command_of, complains, refuses
from matplotlib.figure import Figure

from safa.report.drawing import file_bytes
from safa.report.result_file import RESULT
from safa.report.table_files import EARLIER
from safa.retrieval.saved_descriptors import MAT, NPZ
from safa.runtime import files
from safa.runtime.command_line import Parser
from safa.runtime.errors import UserError, reported
from safa.runtime.outputs import PICTURE, Output, check_outputs


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The folder of the test, with a file of each kind; it is the working directory."""
    monkeypatch.chdir(tmp_path)
    pathlib.Path("image.jpg").write_bytes(b"\xff\xd8\xff")
    pathlib.Path("other.png").write_bytes(b"\x89PNG")
    pathlib.Path("result.json").write_text('{\n  "version": "1.0.0"}')
    os.link("result.json", "hard_link.json")
    os.symlink("image.jpg", "link.jpg")
    os.symlink(".", "again")
    os.mkdir("folder")
    os.mkfifo("pipe")
    return tmp_path


REFUSED = {
    "image.jpg": "another kind",
    "other.png": "another kind",
    "hard_link.json": "this command reads it",
    "link.jpg": "a link",
    "pipe": "a link, pipe",
    "/dev/stdout": "a link",
    "again/new.json": "--first writes this file too",
    **dict.fromkeys(("folder", "missing/a.json", ""), "existing folder"),
}


@pytest.mark.parametrize("earlier", [RESULT, NPZ, MAT, PICTURE])
def test_an_output_that_would_lose_something_is_refused(here, earlier):
    for path, expected in REFUSED.items():
        inputs = ["result.json"] if earlier is RESULT or "reads" in expected else []
        outputs = [Output("--first", "new.json", RESULT), Output("--second", path, earlier)]
        refuses(rf"^--second {path}.*{expected}", check_outputs, outputs, inputs)


def test_new_files_empty_ones_and_earlier_outputs_are_written(here):
    (here / "empty.mat").touch()
    (here / "drawn.png").write_bytes(file_bytes(Figure()))
    (here / "drawn.pdf").write_bytes(file_bytes(Figure(), "pdf"))
    outputs = [Output("a", "new.json", RESULT), Output("b", "result.json", RESULT), Output("c", None, MAT)]
    outputs += [Output("d", "empty.mat", MAT), Output("e", "drawn.png", PICTURE), Output("f", "drawn.pdf", EARLIER)]
    check_outputs(outputs, inputs=["image.jpg", "missing.jpg"])


def test_scripts_replace_no_file_of_another_kind(here):
    assert "another kind" in complains("check_data.py", dataset="cvusa", json="result.json", cwd=here)
    assert "another kind" in complains("training_curves.py", output="other.png", cwd=here)
    assert (here / "result.json").stat().st_size == 23


PRINTING = """
import sys
from safa.runtime.errors import reported
with reported():
    for number in range(int(sys.argv[1])):
        print("line", number)
    if sys.argv[2] == "exit":
        sys.exit(0)
    if sys.argv[2] == "more":
        print("more", flush=True)
"""


@pytest.mark.parametrize("lines", [1, 100_000])
@pytest.mark.parametrize("end", ["at_once", "exit", "more"])
def test_a_closed_pipe_ends_a_script_without_a_word(lines, end):
    reading, writing = os.pipe()
    os.close(reading)
    words = [sys.executable, "-c", PRINTING, str(lines), end]
    outcome = subprocess.run(words, cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writing)
    assert (outcome.returncode, outcome.stderr) == (141, "")


def test_a_script_before_its_requirements_are_installed_ends_in_a_line():
    for script in ("check_data.py", "data_preparation.py", "train_cvusa.py", "reproduce.py", "localize.py", "toy_town"):
        command, *words = command_of(script)
        outcome = subprocess.run([command, "-S", *words], capture_output=True, text=True, cwd=ROOT)
        assert outcome.returncode == 2
        assert outcome.stderr.count("\n") == 1 and "lacks tensorflow, keras, numpy" in outcome.stderr


def reading_of_a_broken_disk(monkeypatch):
    def read(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(files, "open", lambda *_, **__: contextlib.nullcontext(types.SimpleNamespace(read=read)), raising=False)
    files.read_file("Data/\x1b[2Ja.json")


def a_library_that_warns(_):
    warnings.warn("for programmers", stacklevel=1)
    raise UserError("named \x1b[2J\n")


DISK = r"Data/\x1b[2Ja.json: Input/output error; the disk"


@pytest.mark.parametrize("fails, expected", [(reading_of_a_broken_disk, DISK), (a_library_that_warns, r"named \x1b[2J\n")])
def test_a_mistake_is_one_line_that_moves_no_cursor(monkeypatch, capsys, fails, expected):
    monkeypatch.setattr(sys, "warnoptions", [])
    with warnings.catch_warnings(), pytest.raises(SystemExit) as end, reported():
        fails(monkeypatch)
    message = capsys.readouterr().err
    assert end.value.code == 2 and expected in message and message.count("\n") == 1 and "\x1b" not in message
    refuses("control characters", Parser("").parse_args, ["--model_dir", "a\x1b[2J"])
