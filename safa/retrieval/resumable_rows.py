"""Rows of descriptors in memory or in a file, where a command that was stopped goes on after those that it finished."""

import dataclasses
import hashlib
import math
import os
import pathlib
import time

import numpy as np

from safa.runtime.errors import UserError, first_line, shortened
from safa.runtime.files import check_space, file_state, naming, ordinary, read_json, write_json

AGAIN = "its rows are computed again"
KEEP_SECONDS = 20.0  # between manifests: the most that a killed command computes again


@dataclasses.dataclass(frozen=True)
class RowsManifest:
    """What a file of rows holds."""

    identity: dict  # what the rows depend on besides their sources: weights, network, precision
    done: int  # number of rows that are finished, from the first on
    sources: str  # digest of their source files' paths, sizes and times
    content: str  # digest of their bytes
    milliseconds: float | None = None  # that computing a row took; None where it was not measured


def read_rows_manifest(path):
    """The RowsManifest of the rows in PATH.npy, or None if they have none. Raises UserError if it cannot be understood."""
    return read_json(f"{path}.json", RowsManifest, AGAIN) if os.path.exists(f"{path}.json") else None


def files_digest(paths):
    """What files are at present, by their paths, sizes and times: 16 hexadecimal digits."""
    return hashlib.sha256(b"".join(file_state(path) + b"\n" for path in paths)).hexdigest()[:16]


def new_array_file(path, shape, dtype, what, remedy):
    """An array in a new .npy file, mapped into memory. Its space is taken now: a full disk would end the process later.

    Raises UserError if the disk has too little space for `what`; `remedy`: what the user can do.
    """
    check_space(os.path.dirname(path), math.prod(shape) * np.dtype(dtype).itemsize, what, remedy)
    with naming(path):  # file systems without mappings do not name it
        array = np.lib.format.open_memmap(path, "w+", dtype, shape)
        if hasattr(os, "posix_fallocate"):
            with open(path, "r+b") as file:
                os.posix_fallocate(file.fileno(), 0, os.path.getsize(path))
    return array


class ResumableRows:
    """N rows of D numbers that are computed in their order; as a context it keeps those that are finished, whatever its end.

    With a path they lie in PATH.npy, and PATH.json, a RowsManifest, says what they are of. Rows that an earlier command
    finished there are taken over if identity, shape, dtype and sources are the same and the file holds what was written to it;
    otherwise all are computed again. No other process may use the same path meanwhile.

    Args:
        shape: (N, D).
        dtype: float32 or float16.
        path: of the files without ending, in a folder that exists; None: rows are kept in memory.
        identity: what the rows depend on besides their sources, as JSON keeps it.
        sources: N paths of the files that the rows are of.
        remedy: what a user does where the disk is full.

    Attributes:
        rows: (N, D) array, mapped into memory where there is a path; the first `done` rows are finished.
        done: number of rows that are finished.
        milliseconds: that computing a row takes, or None.
        note: line that says why rows of the same identity are computed again, or None.

    Raises:
        UserError: the disk has too little space.
    """

    def __init__(self, shape, dtype=np.float32, path=None, identity=None, sources=(), remedy="free some space"):
        self._path, self._identity, self._paths = path, identity, sources
        self.milliseconds, self.note = None, None
        self._begin()
        self.rows = np.empty(shape, dtype) if path is None else self._earlier(shape, dtype)
        if self.rows is None:
            self._begin()
            for each in f"{path}.json", f"{path}.npy":
                pathlib.Path(each).unlink(missing_ok=True)
            self.rows = new_array_file(f"{path}.npy", shape, dtype, "descriptors", remedy)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.keep()

    def write(self, start, rows, milliseconds=None):
        """Write the rows from `start` on, at most `done`; those that are finished stay as they are."""
        end = start + len(rows)
        self.rows[self.done : end] = rows[self.done - start :]
        self.done, self.milliseconds = max(end, self.done), milliseconds or self.milliseconds
        if time.monotonic() - self._kept > KEEP_SECONDS:
            self.keep()

    def keep(self):
        """Write the manifest of the finished rows, after they are on disk."""
        if self._path is not None:
            self.rows.flush()
            digests = self._digests(self.rows, self.done)
            write_json(f"{self._path}.json", RowsManifest(self._identity, self.done, *digests, self.milliseconds))
        self._kept = time.monotonic()

    def _begin(self):
        self.done, self._digested, self._kept = 0, 0, time.monotonic()
        self._sources, self._content = hashlib.sha256(), hashlib.sha256()

    def _digests(self, rows, done):
        """Digests of the first rows' sources and bytes; each is read once."""
        for path in self._paths[self._digested : done]:
            self._sources.update(file_state(path) + b"\n")
        self._content.update(rows[self._digested : done])
        self._digested = done
        return self._sources.hexdigest(), self._content.hexdigest()

    def _earlier(self, shape, dtype):
        """The rows that an earlier command left, with their number in `done`; None if it cannot go on with any."""
        array = f"{self._path}.npy"
        try:
            manifest = read_rows_manifest(self._path)
            if manifest is None or manifest.identity != self._identity:
                return None
            open(array, "rb", opener=ordinary).close()
            np.load(array, mmap_mode="r")  # refuses a file that was cut off; "r+" fills it up with zeros
            rows = np.load(array, mmap_mode="r+")
            if rows.shape != shape or rows.dtype != dtype or not 0 <= manifest.done <= len(rows):
                raise ValueError("not the file that its manifest is of")
            sources, content = self._digests(rows, manifest.done)
            if sources != manifest.sources:
                return None
            if content != manifest.content:
                raise ValueError("its content has changed")
        except Exception as error:  # whatever broken bytes lead the readers to
            damaged = f"{shortened(array)}: damaged since it was written ({first_line(error)}); {AGAIN}"
            self.note = str(error) if isinstance(error, UserError) else damaged
            return None
        self.done, self.milliseconds = manifest.done, manifest.milliseconds
        return rows
