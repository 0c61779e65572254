"""Reads NumPy files with 1 GB of memory and prints what each gives, or the error."""

import resource
import sys

from safa.training.pickled_arrays import vgg16_npy

from safa.runtime.errors import UserError

resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
for path in sys.argv[1:]:
    try:
        print("read", path, vgg16_npy(path))
    except UserError as error:
        print(error)
