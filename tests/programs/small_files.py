"""Runs a script of the project while no file may grow beyond some bytes: writing fails in the middle, as on a full disk.

Arguments: the bytes, then the command line.
"""

import resource
import runpy
import signal
import sys

size = int(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
del sys.argv[:2]
runpy.run_path(sys.argv[0], run_name="__main__")
