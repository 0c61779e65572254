"""Descriptors on disk while they are computed: a stopped test goes on, and a second one computes nothing again."""

import contextlib
import os
import time

import numpy as np

from safa.runtime.errors import UserError
from safa.runtime.files import allocate, check_space, ordinary, read_json, write_json
from safa.runtime.folder_lock import open_lock

LOCK = ".lock"  # held by the process that writes in a folder
KEEP_SECONDS = 20.0  # between notes of what is finished: the most that a killed test computes again
REMEDY = "free some space, use another --result_dir, or --descriptors memory"


class DescriptorFiles:
    """The descriptor files of a test, in a folder of their own.

    Args:
        folder: it is made if it does not exist.
        identity: what all of them depend on, as JSON keeps it: weights, network, precision.
    """

    def __init__(self, folder, identity):
        self.folder, self._identity = folder, identity

    def file(self, name, shape, **identity):
        """A DescriptorFile.

        Args:
            name: "ground", for instance.
            shape: (N, D), numbers of images and of values.
            identity: what these descriptors depend on besides: source files, turns of the panoramas.
        """
        return DescriptorFile(os.path.join(self.folder, name), shape, self._identity | identity)


@contextlib.contextmanager
def open_descriptor_files(folder, identity):
    """`DescriptorFiles` that this process has alone; None where another one is writing in the folder."""
    os.makedirs(folder, exist_ok=True)
    with open_lock(os.path.join(folder, LOCK)) as lock:
        yield DescriptorFiles(folder, identity) if lock.take_alone() else None


class DescriptorFile:
    """Rows of descriptors, NAME.npy, and a note of what they are of and how many are finished, NAME.json.

    Attributes:
        done: number of rows that were finished before, of the same images by the same weights.
        rows: (N, D) float32, mapped into memory; None until the first are there.
        milliseconds: that computing took an image, or None.
    """

    def __init__(self, path, shape, identity):
        self._array, self._note = f"{path}.npy", f"{path}.json"
        self._shape, self._identity = shape, identity
        self.done, self.rows, self.milliseconds = 0, None, None
        self._load()
        self._kept = time.monotonic()

    def _load(self):
        """Take over what an earlier test left, if it is of the same images and weights and not damaged."""
        try:
            note = read_json(self._note, dict, "")
            open(self._array, "rb", opener=ordinary).close()
            np.load(self._array, mmap_mode="r")  # refuses a file that was cut off; "r+" fills it up with zeros
            rows = np.load(self._array, mmap_mode="r+")
            done, milliseconds = note["done"], note["milliseconds"]
            if note["of"] != self._identity or rows.dtype != np.float32 or rows.shape != self._shape:
                return
            if type(done) is not int or not 0 < done <= len(rows) or not isinstance(milliseconds, float | None):
                return
        except Exception:  # whatever broken bytes lead the readers to: the descriptors are computed again
            return
        self.done, self.rows, self.milliseconds = done, rows, milliseconds

    def begin(self):
        """Make the file, unless it is there.

        Raises:
            UserError: there is too little space.
        """
        if self.rows is not None:
            return
        for path in self._note, self._array:
            if os.path.lexists(path):
                _remove(path)
        check_space(os.path.dirname(self._array), 4 * self._shape[0] * self._shape[1], "descriptors", REMEDY)
        self.rows = np.lib.format.open_memmap(self._array, "w+", np.float32, self._shape)
        allocate(self._array)

    def is_due(self):
        """Whether the last note is some time ago."""
        return time.monotonic() - self._kept > KEEP_SECONDS

    def keep(self, done, milliseconds):
        """Note that the first `done` rows are finished, after they are on disk."""
        self.rows.flush()
        self.done, self.milliseconds, self._kept = done, milliseconds, time.monotonic()
        note = {"of": self._identity, "done": done, "milliseconds": milliseconds}
        write_json(self._note, note)


def _remove(path):
    try:
        os.unlink(path)
    except IsADirectoryError:
        raise UserError(f"{path}: a folder in the place of a file; move it away") from None
