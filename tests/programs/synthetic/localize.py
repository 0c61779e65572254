"""Runs localize.py on indexes of synthetic_index.py. Arguments: answers until it kills itself (0: never), the command line."""

import os
import runpy
import signal
import sys

from safa.localization import index, journal
from safa.runtime.errors import ROOT
from safa.runtime.files import append
from tests.localization import synthetic_index

index.Index._ground, left, add = property(lambda self: synthetic_index.ground), [int(sys.argv.pop(1))], journal.Journal.add


def counted(self, number, answer):
    add(self, number, answer)
    left[0] -= 1
    if left[0] == 0:
        append(self._path, b"[7,[1,")  # half a line
        os.kill(os.getpid(), signal.SIGKILL)


journal.Journal.add = counted
runpy.run_path(os.path.join(ROOT, "localize.py"), run_name="__main__")
