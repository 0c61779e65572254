"""How a script ends when nobody reads its output."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT

SCRIPT = """
import sys
sys.path.insert(0, {root!r})
from runtime.errors import reported
with reported():
    for number in range({lines}):
        print("line", number)
    {end}
"""


@pytest.mark.parametrize("lines", [1, 100_000])
@pytest.mark.parametrize("end", ["pass", "sys.exit(0)", "print('more', flush=True)"])
def test_a_closed_pipe_ends_a_script_without_a_word(lines, end):
    reading, writing = os.pipe()
    os.close(reading)
    outcome = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(root=ROOT, lines=lines, end=end)],
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
        [sys.executable, os.path.join(ROOT, "data_preparation.py"), "--help"],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    os.close(writing)
    assert outcome.returncode in (0, 141) and outcome.stderr == ""  # argparse passes over what it cannot print
