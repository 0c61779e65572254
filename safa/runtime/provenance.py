"""What a run's results came from: packages, the project's commit, the command."""

import contextlib
import datetime
import importlib.metadata
import os
import platform
import subprocess
import sys

from safa.runtime.errors import ROOT

PACKAGES = ("tensorflow", "keras", "numpy", "opencv-python-headless", "scipy")


def session():
    """One start of a script: {"started", "command", "machine", "python", "packages", "git_commit"}."""
    packages = dict.fromkeys(PACKAGES)
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # OpenCV may come from another package
            packages[name] = importlib.metadata.version(name)
    return {
        "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": [os.path.basename(sys.argv[0]), *sys.argv[1:]],
        "machine": f"{platform.platform()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "packages": packages,
        "git_commit": git_commit(),
    }


def git_commit():
    """The project's commit, with "-dirty" after it if files differ from it; None outside a repository."""
    command = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
    try:
        return subprocess.check_output(command, cwd=ROOT, stderr=subprocess.DEVNULL, text=True, timeout=10).strip()
    except (OSError, subprocess.SubprocessError):
        return None
