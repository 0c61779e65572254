"""Converts "c" to two targets while no file may grow beyond 20 kB; prints the exit codes. Arguments: further flags."""

import resource
import sys

import convert_weights
from safa.runtime import errors

resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
for target in ("a.weights.h5", "b.ckpt"):
    try:
        with errors.reported():
            convert_weights.main(["c", target, "--overwrite", *sys.argv[1:]])
    except SystemExit as end:
        print(end.code)
