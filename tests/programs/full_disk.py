"""Runs a script of the project while its own files find a disk of some bytes. Arguments: the bytes, then the command line."""

import builtins
import errno
import runpy
import sys

from safa.runtime import files


class File:
    """A file on a disk that fills up."""

    left = int(sys.argv[1])

    def __init__(self, path, mode):
        self.file = builtins.open(path, mode)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def __getattr__(self, name):
        return getattr(self.file, name)

    def write(self, content):
        self.file.write(bytes(content)[: File.left])
        File.left -= len(content)
        if File.left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")


files.open = lambda path, mode="r", **options: File(path, mode) if "w" in mode else builtins.open(path, mode, **options)
del sys.argv[:2]
runpy.run_path(sys.argv[0], run_name="__main__")
