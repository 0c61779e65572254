"""Descriptors in files: for other programs, NumPy's and MATLAB's, and from them."""

import re

import numpy as np
import scipy.io

from safa.runtime.errors import UserError, first_line, shortened
from safa.runtime.files import open_whole, ordinary, read_file
from safa.runtime.mat_file import read_mat

SAT_NAME, GRD_NAME = "sat_global_descriptor", "grd_global_descriptor"  # the field's scripts look for these
NAMES = {"sat_descriptors": SAT_NAME, "grd_descriptors": GRD_NAME}  # ours, in NumPy's files, and the field's
# How these files begin.
NPZ = re.compile(rb"PK\x03\x04.{26}ids\.npy", re.DOTALL)
MAT = re.compile(rb"MATLAB 5\.0 MAT-file.{,500}sat_global_descriptor", re.DOTALL)
MAT_BYTES = 2**31 - 1  # of an array in a MATLAB file up to version 7; SAFA_8's of CVACT_test have 1.5 GB
MOST_TIMES = 1000  # as large as its file is an array that is read, or MOST_SMALL bytes: descriptors hardly compress
MOST_SMALL = 2**30


def read_descriptors(paths):
    """Descriptors of an .npz or .mat file with the names in NAMES, or of two .npy files, the references' first.

    Returns:
        references, queries: (N, D) and (Q, D) float32, finite.
        ids, truth: Q strings and (Q,) int64 rows of references, where an .npz or .mat file holds them (`save_npz`); or None.

    Raises:
        UserError: a file cannot be read, or its arrays are not descriptors. Nothing is unpickled.
    """
    content, names, shown = {}, [*NAMES, *NAMES.values(), "ids", "truth"], shortened(", ".join(paths))
    try:
        for path, name in zip(paths, NAMES if len(paths) == 2 else [None], strict=True):
            with open(path, "rb", opener=ordinary) as file:
                if name is not None:
                    content[name] = np.lib.format.open_memmap(path, mode="r")  # refuses a header that promises too much
                else:
                    is_zip = file.peek(2).startswith(b"PK")
                    content = _npz(file, names) if is_zip else read_mat(file, names)
    except Exception as error:  # whatever broken bytes lead the readers to
        if isinstance(error, UserError) or isinstance(error, OSError) and error.filename:
            raise
        raise UserError(
            f"{shown}: not readable as descriptors ({first_line(error)}); write .npz, .npy, or .mat up to version 7"
        ) from None
    found = [content.get(ours, content.get(theirs)) for ours, theirs in NAMES.items()]
    if any(each is None for each in found):
        raise UserError(f"{shown}: lacks {' or '.join(NAMES)} (or {', '.join(NAMES.values())}); write both")
    references, queries = (_checked(each, f"{shown}: {name}") for each, name in zip(found, NAMES, strict=True))
    if references.shape[1] != queries.shape[1]:
        raise UserError(f"{shown}: descriptors of {references.shape[1]:,} and {queries.shape[1]:,} values; they must agree")
    ids, truth = (None if name not in content else np.ravel(content[name]) for name in ("ids", "truth"))
    if ids is not None and (ids.dtype.kind not in "Uiu" or len(ids) != len(queries)):
        what = f"{len(ids):,} ids of type {ids.dtype}"
        raise UserError(f"{shown}: {what}; write a text for each of {len(queries):,} queries, in MATLAB char(ids)")
    if truth is not None and (len(truth) != len(queries) or not np.isin(truth, np.arange(len(references))).all()):
        raise UserError(f"{shown}: truth is not the row of each query's reference, from 0 to {len(references) - 1:,}")
    ids = ids if ids is None else [each.strip() for each in ids.astype(str).tolist()]  # MATLAB pads them with blanks
    return references, queries, ids, truth if truth is None else np.int64(truth)


def _npz(file, names):
    """The arrays of these names in an .npz file; one that would unpack to far more bytes than descriptors do is refused."""
    with np.load(file) as arrays:
        size = sum(info.file_size for info in arrays.zip.infolist())
        if size > max(MOST_SMALL, MOST_TIMES * file.seek(0, 2)):
            raise ValueError(f"it would unpack to {size / 1e9:,.0f} GB")
        return {name: arrays[name] for name in names if name in arrays}


def _checked(array, name):
    """An array as (n, D) float32; `name` is for messages."""
    array = np.asarray(array)  # sparse matrices and bytes become of other types
    if array.dtype.kind != "f" or array.ndim != 2 or not array.size:
        shape = "x".join(map(str, array.shape))
        raise UserError(f"{name}: shape {shape}, type {array.dtype}; write a row of floating-point numbers for each image")
    with np.errstate(over="ignore"):
        rows = np.ascontiguousarray(array, np.float32)
    if wrong := np.count_nonzero(~np.isfinite(rows).all(axis=1)):
        raise UserError(f"{name}: {wrong:,} of {len(rows):,} rows are not finite in float32; the network has diverged")
    return rows


def read_truth(path, references, count):
    """What a text file says of `count` queries, a line each: rows of references from 0, the true one and then other hits.

    Returns the true ones, (Q,) int64, and a list of the others, (n,) int64, each once; None if no line has any.
    """
    lines = read_file(path).decode("utf-8-sig", "replace").replace(",", " ").splitlines()
    rows = [[int(each) if re.fullmatch("[0-9]{1,9}", each) else references for each in line.split()] for line in lines]
    wrong = [number for number, row in enumerate(rows, 1) if not row or max(row) >= references]
    if wrong or len(rows) != count:
        where = f"line {wrong[0]:,}" if wrong else f"{len(rows):,} lines for {count:,} queries"
        raise UserError(
            f"{shortened(path)}: {where}: write for each query rows from 0 to {references - 1:,}, the true one first"
        )
    others = [np.unique(np.array(row[1:], np.int64)) for row in rows]
    return np.array([row[0] for row in rows]), others if any(map(len, others)) else None


def row_lengths(rows):
    """(n, 1) float64 Euclidean lengths of (n, D) descriptors."""
    return np.sqrt(np.einsum("nd,nd->n", rows, rows, dtype=np.float64))[:, None]


def save_npz(path, pairs, references, queries):
    """Write `ids` (Q strings), `sat_descriptors` and `grd_descriptors` ((N, D) and (Q, D) float32) to an .npz file.

    Where queries are not one to one with references, also `truth`, (Q,) int64: the row of each query's reference.
    """
    truth = {} if pairs.one_to_one else {"truth": pairs.truth}
    with open_whole(path) as file:
        np.savez(file, ids=np.array(pairs.ids), sat_descriptors=references, grd_descriptors=queries, **truth)


def check_mat(path, count, dimension):
    """Raise a UserError if (count, dimension) float32 are more than an array of a MATLAB file can hold."""
    if (most := 4 * count * dimension) > MAT_BYTES:
        what = f"{most / 1e9:.1f} GB of descriptors, and a MATLAB file holds 2.1 GB an array"
        raise UserError(f"--save_mat {path}: {what}; use --save_descriptors FILE.npz")


def save_mat(path, references, queries):
    """Write `sat_global_descriptor` and `grd_global_descriptor`, (N, D) and (Q, D) float32, to a MATLAB file of version 5."""
    with open_whole(path) as file:
        scipy.io.savemat(file, {SAT_NAME: references, GRD_NAME: queries})
