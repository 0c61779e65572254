"""Ctrl-C ends every script with one line, also while it imports and while its workers start."""

import os
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest
from conftest import ROOT, SMALL, command, command_of

SCRIPTS = sorted(
    name
    for name in os.listdir(ROOT)
    if name.endswith(".py") and "with reported():" in open(os.path.join(ROOT, name), encoding="utf-8").read()
) + ["toy_town"]
PRESS = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(5)\n"
# Each worker presses it for all processes, as a terminal does, before it has imported anything.
PRESS_IN_WORKERS = """import os, signal, sys, time
if "--multiprocessing-fork" in sys.orig_argv:
    os.killpg(os.getpgrp(), signal.SIGINT)
    time.sleep(0.3)
"""


def interrupted(script, *, cwd, module, content, **flags):
    """Run a script with a module that presses Ctrl-C when it is imported: exit code and what it wrote to stderr."""
    folder = cwd / "modules"
    folder.mkdir()
    (folder / f"{module}.py").write_text(content)
    outcome = subprocess.run(
        [*command_of(script), *command(**flags)],
        cwd=cwd,
        text=True,
        capture_output=True,
        timeout=60,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), ROOT])},
    )
    return outcome.returncode, outcome.stderr


@pytest.mark.parametrize("script", SCRIPTS)
def test_while_a_script_imports(script, tmp_path):
    assert len(SCRIPTS) == 12
    assert interrupted(script, cwd=tmp_path, module="argparse", content=PRESS) == (130, f"{script}: interrupted\n")


def test_while_tensorflow_is_imported(towns, tmp_path):
    flags = SMALL | {"data_dir": towns / "Data"}
    ended = interrupted("train_cvusa.py", **flags, cwd=tmp_path, module="tensorflow", content=PRESS)
    assert ended == (130, "train_cvusa.py: interrupted\n")


def test_while_workers_start(tmp_path):
    tiles = tmp_path / "Data/CVUSA/bingmap/19"
    tiles.mkdir(parents=True)
    for number in range(100):
        cv2.imwrite(str(tiles / f"{number}.png"), np.zeros((32, 32, 3), np.uint8))
    code, complaints = interrupted(
        "data_preparation.py", workers=4, cwd=tmp_path, module="sitecustomize", content=PRESS_IN_WORKERS
    )
    lines = [line for line in complaints.splitlines() if not line.startswith("CVUSA polar maps:")]  # tqdm's
    assert code == 130 and len(lines) == 1 and lines[0].startswith("data_preparation.py: interrupted"), complaints


def test_other_programs_keep_their_own_answer():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import signal, runtime.errors; "
        "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler"
    )
    subprocess.run([sys.executable, "-c", code, ROOT], check=True, cwd=ROOT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
