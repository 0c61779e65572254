"""What a command writes replaces nothing but its own earlier outputs; and how it ends, also when nobody reads its output."""

import errno
import itertools
import os
import subprocess
import sys
import warnings
from unittest import mock

import numpy as np
import pytest
from conftest import ROOT, complains, refuses
from matplotlib.figure import Figure

from safa.report.drawing import Shown, file_bytes, image_rows
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
    files = {"image.jpg": b"\xff\xd8\xff", "other.png": b"\x89PNG", "result.json": b'{\n  "version": "1.0.0"}'}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
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


def test_an_output_that_would_lose_something_is_refused_new_files_empty_ones_and_earlier_outputs_are_written(here):
    for earlier, (path, expected) in itertools.product((RESULT, NPZ, MAT, PICTURE), REFUSED.items()):
        inputs = ["result.json"] if earlier is RESULT or "reads" in expected else []
        outputs = [Output("--first", "new.json", RESULT), Output("--second", path, earlier)]
        refuses(rf"^--second {path}.*{expected}", check_outputs, outputs, inputs)
    (here / "empty.mat").touch()
    (here / "drawn.png").write_bytes(file_bytes(Figure()))
    (here / "drawn.pdf").write_bytes(file_bytes(Figure(), "pdf"))
    outputs = [Output("a", "new.json", RESULT), Output("b", "result.json", RESULT), Output("c", None, MAT)]
    outputs += [Output("d", "empty.mat", MAT), Output("e", "drawn.png", PICTURE), Output("f", "drawn.pdf", EARLIER)]
    check_outputs(outputs, inputs=["image.jpg", "missing.jpg"])
    with mock.patch("os.access", return_value=False):
        refuses("^a .*new.json: its folder may not be written", check_outputs, outputs)
    # Scripts ask for it.
    assert "another kind" in complains("check_data.py", dataset="cvusa", json="result.json", cwd=here)
    assert "another kind" in complains("training_curves.py", output="other.png", cwd=here)
    (here / "other.png").rename(here / "pairs_val.png")
    assert "pairs_val.png: a file of another kind" in complains("check_data.py", dataset="cvusa", figures=".", cwd=here)
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


def test_streams_that_the_shell_closed_lead_nowhere_and_not_into_the_next_file(tmp_path):
    code = "import os, sys, safa; file = open(sys.argv[1], 'w'); print(1); os.write(1, b'?'), os.write(2, b'?')"
    words = ["bash", "-c", '"$0" -c "$1" "$2" <&- >&- 2>&-', sys.executable, code, str(tmp_path / "a")]
    assert subprocess.run(words, cwd=ROOT, timeout=60).returncode == 0 and not (tmp_path / "a").read_bytes()


DRAWING = """
import sys
from safa.runtime.errors import reported
with reported():
    import numpy
    from safa.report.drawing import Shown, file_bytes, image_rows
    sys.stdout.buffer.write(file_bytes(image_rows([[Shown(numpy.zeros((8, 8, 3), "u1"))]], "100 %")))
"""


def test_a_notebooks_backend_and_a_users_matplotlibrc_change_no_picture(tmp_path):
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nsavefig.dpi: 600\n")
    environment = os.environ | {"MPLBACKEND": "not installed", "MATPLOTLIBRC": str(tmp_path)}
    drawn = subprocess.check_output([sys.executable, "-c", DRAWING], cwd=ROOT, env=environment)
    assert drawn == file_bytes(image_rows([[Shown(np.zeros((8, 8, 3), np.uint8))]], "100 %"))


def test_a_script_before_its_requirements_are_installed_ends_in_a_line():
    for words in "check_data.py", "data_preparation.py", "train_cvusa.py", "reproduce.py", "localize.py", "-m toy_town":
        outcome = subprocess.run([sys.executable, "-S", *words.split()], capture_output=True, text=True, cwd=ROOT)
        assert outcome.returncode == 2 and outcome.stderr.count("\n") == 1 and "lacks tensorflow, keras" in outcome.stderr


def read_from_a_broken_disk(path):
    broken = mock.mock_open()
    broken.return_value.read.side_effect = OSError(errno.EIO, "Input/output error")
    with mock.patch.object(files, "open", broken, create=True):
        files.read_file(path)


def warn_and_fail(line):
    warnings.warn("for programmers", stacklevel=1)
    raise UserError(line)


def test_a_mistake_is_one_line_that_moves_no_cursor(monkeypatch, capsys):
    monkeypatch.setattr(sys, "warnoptions", [])
    for fails, text, expected in (
        (read_from_a_broken_disk, "Data/\x1b[2Ja.json", r"Data/\x1b[2Ja.json: Input/output error; the disk"),
        (mock.Mock(side_effect=FileNotFoundError(errno.ENOENT, "No usable folder")), "", "No usable folder; check"),
        (mock.Mock(side_effect=OSError(errno.ENOSPC, "", "a.png")), "", "a.png: No space left on device; free some space"),
        (warn_and_fail, "named \x1b[2J\n", r"named \x1b[2J\n"),
    ):
        with warnings.catch_warnings(), pytest.raises(SystemExit) as end, reported():
            fails(text)
        message = capsys.readouterr().err
        assert end.value.code == 2 and expected in message and message.count("\n") == 1 and "\x1b" not in message
    refuses("control characters", Parser("").parse_args, ["--model_dir", "a\x1b[2J"])
