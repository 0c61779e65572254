"""MATLAB files, read in a process of their own: some damaged ones end it, because SciPy's reader checks no index."""

import pickle
import subprocess
import sys

from safa.runtime.errors import ROOT

READER = """
import pickle, sys, scipy.io
try:
    found = scipy.io.loadmat(sys.stdin.buffer, variable_names=sys.argv[1:] or None)
except Exception as error:
    found = str(error) or type(error).__name__
pickle.dump(found, sys.stdout.buffer, pickle.HIGHEST_PROTOCOL)
"""


def read_mat(file, names=()):
    """The variables of these names, or all, in a MATLAB file of a version up to 7: {name: array}, as of scipy.io.loadmat.

    `file`: an ordinary one, open in binary mode. Raises ValueError, whose text says why, for a message that names the file.
    """
    streams = {"stdin": file, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "-c", READER, *names], cwd=ROOT, **streams) as process:
        try:
            found = pickle.load(process.stdout)
        except (EOFError, pickle.UnpicklingError):
            found = f"SciPy's reader crashes on it, exit code {process.wait()}"
    if isinstance(found, str):
        raise ValueError(found)
    return found
