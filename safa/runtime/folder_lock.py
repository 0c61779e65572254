"""Locks on folders and files between processes; they end with the process that holds them."""

import contextlib
import os


class Lock:
    """A lock that one process has alone, or that several share. Where the file system has no locks it is always had."""

    def __init__(self, descriptor):
        self._descriptor = descriptor

    def take_alone(self):
        """Whether this process has the lock alone now; False if another one has or shares it."""
        return self._take("LOCK_EX", "LOCK_NB")

    def share(self):
        """Share the lock with others that share it; waits for one that has it alone."""
        self._take("LOCK_SH")

    def _take(self, *flags):
        if self._descriptor is None:
            return True
        import fcntl

        try:
            fcntl.flock(self._descriptor, sum(getattr(fcntl, flag) for flag in flags))
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks
            pass
        return True


@contextlib.contextmanager
def open_lock(path):
    """A `Lock` on a folder that exists, or on a file that is made if it does not exist; nobody has it yet.

    A file's lock also holds between the machines of a network file system, a folder's only on this one.
    """
    try:
        import fcntl  # noqa: F401
    except ImportError:  # not on Windows
        yield Lock(None)
        return
    descriptor = os.open(path, os.O_RDONLY if os.path.isdir(path) else os.O_RDWR | os.O_CREAT, 0o666)
    try:
        yield Lock(descriptor)
    finally:
        os.close(descriptor)
