"""Files that are read only if they are ordinary ones: a pipe would let a script wait for ever."""
from runtime.errors import UserError, shortened

import os
import stat


def ordinary(path, flags):
    """An `opener` for `open` that refuses pipes, devices, sockets and folders.

    Raises:
        UserError: it is one of these.
        OSError: it cannot be opened.
    """
    number = os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o666)  # a pipe opens at once, without a writer
    if stat.S_ISREG(os.fstat(number).st_mode):
        return number
    os.close(number)
    raise UserError(f"{shortened(path)}: a folder, pipe or device in the place of a file; move it away")


def read_file(path):
    """The bytes of an ordinary file; errors as of `ordinary`."""
    with open(path, "rb", opener=ordinary) as file:
        return file.read()
