"""What a command writes replaces nothing but its own earlier outputs."""

import os
import pathlib

import pytest
from conftest import complains
from matplotlib.figure import Figure

from safa.report.drawing import file_bytes
from safa.report.result_file import RESULT
from safa.report.table_files import EARLIER
from safa.retrieval.saved_descriptors import MAT, NPZ
from safa.runtime.errors import UserError
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


@pytest.mark.parametrize(
    "path, expected",
    [
        ("image.jpg", "another kind"),
        ("other.png", "another kind"),
        ("hard_link.json", "this command reads it"),
        ("link.jpg", "a link"),
        ("pipe", "a link, pipe"),
        ("/dev/stdout", "a link"),
        ("folder", "existing folder"),
        ("missing/a.json", "existing folder"),
        ("", "existing folder"),
        ("again/new.json", "--first writes this file too"),
    ],
)
def test_an_output_that_would_lose_something_is_refused(here, path, expected):
    for earlier in RESULT, NPZ, MAT, PICTURE:
        with pytest.raises(UserError, match=rf"^--second {path}.*{expected}"):
            inputs = ["result.json"] if earlier is RESULT or "reads" in expected else []
            check_outputs([Output("--first", "new.json", RESULT), Output("--second", path, earlier)], inputs)


def test_new_files_empty_ones_and_earlier_outputs_are_written(here):
    (here / "empty.mat").touch()
    (here / "drawn.png").write_bytes(file_bytes(Figure()))
    (here / "drawn.pdf").write_bytes(file_bytes(Figure(), "pdf"))
    outputs = [Output("a", "new.json", RESULT), Output("b", "result.json", RESULT), Output("c", None, MAT)]
    outputs += [Output("d", "empty.mat", MAT), Output("e", "drawn.png", PICTURE), Output("f", "drawn.pdf", EARLIER)]
    check_outputs(outputs, inputs=["image.jpg", "missing.jpg"])


def test_scripts_replace_no_file_of_another_kind(here):
    for script, flags in (
        ("check_data.py", {"dataset": "cvusa", "json": "result.json"}),
        ("training_curves.py", {"output": "other.png"}),
    ):
        assert "another kind" in complains(script, **flags, cwd=here)
    assert (here / "result.json").stat().st_size == 23
