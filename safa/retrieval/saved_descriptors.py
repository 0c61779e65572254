"""Descriptors in files for other programs: NumPy's and MATLAB's."""

import os
import time

import h5py
import numpy as np
import scipy.io

from safa.runtime.files import open_whole, partial_path

SAT_NAME, GRD_NAME = "sat_global_descriptor", "grd_global_descriptor"  # the field's scripts look for these
MAT_5_BYTES = 2**31 - 1  # of a variable in a MATLAB file up to version 7
USERBLOCK = 512  # bytes before the HDF5 content of a version 7.3 file


def save_npz(path, pairs, references, queries):
    """Write `ids` (Q strings), `sat_descriptors` and `grd_descriptors` ((N, D) and (Q, D) float32) to an .npz file.

    Where queries are not one to one with references, also `truth`, (Q,) int64: the row of each query's reference.
    """
    truth = {} if pairs.one_to_one else {"truth": pairs.truth}
    with open_whole(path) as file:
        np.savez(file, ids=np.array(pairs.ids), sat_descriptors=references, grd_descriptors=queries, **truth)


def save_mat(path, references, queries, most_bytes=MAT_5_BYTES):
    """Write `sat_global_descriptor` and `grd_global_descriptor`, (N, D) and (Q, D) float32, to a MATLAB file.

    Version 5, and 7.3 (HDF5) where a variable has more than `most_bytes`. A file is written whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    arrays = {SAT_NAME: references, GRD_NAME: queries}
    if max(array.nbytes for array in arrays.values()) <= most_bytes:
        with open_whole(path) as file:
            scipy.io.savemat(file, arrays)
        return
    partial = partial_path(path)
    try:
        with h5py.File(partial, "w", userblock_size=USERBLOCK) as file:
            for name, array in arrays.items():
                dataset = file.create_dataset(name, array.shape[::-1], np.float32)  # MATLAB's columns are HDF5's rows
                for start in range(0, len(array), 1024):
                    dataset[:, start : start + 1024] = array[start : start + 1024].T
                dataset.attrs["MATLAB_class"] = np.bytes_("single")
        with open(partial, "r+b") as file:
            title = f"MATLAB 7.3 MAT-file, Platform: posix, Created on: {time.asctime()} HDF5 schema 1.00 ."
            file.write(title.encode().ljust(116) + bytes(8) + b"\x00\x02IM")
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        if os.path.exists(partial):
            os.unlink(partial)
