"""How a script ends when nobody reads its output."""

import os
import subprocess

import pytest
from conftest import ROOT, command_of


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


def test_help_may_be_cut_off():
    reading, writing = os.pipe()
    os.close(reading)
    outcome = subprocess.run(
        [*command_of("data_preparation.py"), "--help"], stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60
    )
    os.close(writing)
    assert outcome.returncode in (0, 141) and outcome.stderr == ""  # argparse passes over what it cannot print
