"""Runs localize.py on indexes of synthetic_index.py. Arguments: answers until it kills itself (0: never), the command line."""

import os
import runpy
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "localization"))
import synthetic_index

from safa.localization import index, journal

index.Index._ground, left, add = property(lambda self: synthetic_index.ground), [int(sys.argv[1])], journal.Journal.add


def counted(self, number, answer):
    add(self, number, answer)
    left[0] -= 1
    if left[0] == 0:
        self._file.write(b"[7,[1,")  # half a line
        self._file.flush()
        os.kill(os.getpid(), signal.SIGKILL)


journal.Journal.add = counted
del sys.argv[1:2]
runpy.run_path(os.path.join(os.path.dirname(__file__), "..", "..", "localize.py"), run_name="__main__")
