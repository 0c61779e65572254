"""Descriptors in files for other programs: NumPy's and MATLAB's."""

import re

import numpy as np
import scipy.io

from safa.runtime.errors import UserError
from safa.runtime.files import open_whole

SAT_NAME, GRD_NAME = "sat_global_descriptor", "grd_global_descriptor"  # the field's scripts look for these
# How these files begin.
NPZ = re.compile(rb"PK\x03\x04.{26}ids\.npy", re.DOTALL)
MAT = re.compile(rb"MATLAB 5\.0 MAT-file.{,500}sat_global_descriptor", re.DOTALL)
MAT_BYTES = 2**31 - 1  # of an array in a MATLAB file up to version 7; SAFA_8's of CVACT_test have 1.5 GB


def save_npz(path, pairs, references, queries):
    """Write `ids` (Q strings), `sat_descriptors` and `grd_descriptors` ((N, D) and (Q, D) float32) to an .npz file.

    Where queries are not one to one with references, also `truth`, (Q,) int64: the row of each query's reference.
    """
    truth = {} if pairs.one_to_one else {"truth": pairs.truth}
    with open_whole(path) as file:
        np.savez(file, ids=np.array(pairs.ids), sat_descriptors=references, grd_descriptors=queries, **truth)


def save_mat(path, references, queries):
    """Write `sat_global_descriptor` and `grd_global_descriptor`, (N, D) and (Q, D) float32, to a MATLAB file of version 5.

    Raises:
        UserError: an array is larger than such a file can hold.
        OSError: the file cannot be written.
    """
    if (most := max(references.nbytes, queries.nbytes)) > MAT_BYTES:
        what = f"{most / 1e9:.1f} GB of descriptors, and a MATLAB file holds 2.1 GB an array"
        raise UserError(f"--save_mat {path}: {what}; use --save_descriptors FILE.npz")
    with open_whole(path) as file:
        scipy.io.savemat(file, {SAT_NAME: references, GRD_NAME: queries})
