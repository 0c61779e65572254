"""What a run's results came from: packages, the project's commit, the command."""

import contextlib
import datetime
import importlib.metadata
import os
import platform
import re
import subprocess
import sys

from safa.runtime.backend import CPU_INFORMATION
from safa.runtime.errors import ROOT
from safa.runtime.worker_pool import available_cores

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
        "machine": machine(),
        "python": platform.python_version(),
        "packages": packages,
        "git_commit": git_commit(),
    }


def machine():
    """Cores, processor and system of this machine, in words."""
    processor = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, TypeError), open(CPU_INFORMATION, encoding="utf-8", errors="replace") as file:
        information = file.read()
        processor = re.search(r"model name\s*: (.*)", information)[1]
        instructions = "AMX", "AVX-512 BF16", "AVX-512", "AVX2"
        flags = "amx_tile", "avx512_bf16", "avx512f", "avx2"
        processor += next((f" with {name}" for name, flag in zip(instructions, flags, strict=True) if flag in information), "")
    return f"{available_cores()} cores of {processor}, {platform.platform()}"


def git_commit():
    """The project's commit, with "-dirty" after it if files differ from it; None outside a repository."""
    command = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
    try:
        return subprocess.check_output(command, cwd=ROOT, stderr=subprocess.DEVNULL, text=True, timeout=10).strip()
    except (OSError, subprocess.SubprocessError):
        return None
