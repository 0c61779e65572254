"""Files that are read only if they are ordinary ones, and written whole or not at all."""

import contextlib
import errno
import fcntl
import itertools
import os
import re
import shutil
import stat
import time
import uuid

import msgspec

from safa.runtime.errors import UserError, first_line, shortened

READ_ONLY = {errno.EACCES, errno.EPERM, errno.EROFS}
LOCK = ".lock"
PARTIAL = ".partial"  # ending of files that are still being written
JSON_BYTES = 2**24  # far more than any of this project's files
SHOWN = 24  # characters of a name that its temporary one begins with: far from the 255, or 143, bytes of file systems
ABANDONED = re.compile(rf"\..*\.[0-9a-f]{{32}}{re.escape(PARTIAL)}", re.DOTALL)
ABANDONED_SECONDS = 24 * 3600  # since the last change of a half-written file; writing one takes minutes


def ordinary(path, flags):
    """An `opener` for `open` that refuses (UserError) pipes, devices, sockets and folders. OSError: it cannot be opened."""
    number = os.open(path, flags | os.O_NONBLOCK, 0o666)  # a pipe opens at once, without a writer
    if stat.S_ISREG(os.fstat(number).st_mode):
        return number
    os.close(number)
    raise UserError(f"{shortened(path)}: a folder, pipe or device in the place of a file; move it away")


@contextlib.contextmanager
def naming(path):
    """What fails inside without a file's name, as reading and writing do, gets this one."""
    try:
        yield
    except OSError as error:
        error.filename = path
        raise


def read_file(path, most=-1):
    """The bytes of an ordinary file, or so many of them; errors as of `ordinary`."""
    with naming(path), open(path, "rb", opener=ordinary) as file:
        return file.read(most)


def file_state(path):
    """What a file is at present, by its path, size and time: bytes. OSError: there is none."""
    status = os.stat(path)
    return f"{os.path.abspath(path)}\0{status.st_size}\0{status.st_mtime_ns}".encode(errors="surrogateescape")


def files_below(folder, pattern):
    """Sorted pathlib paths, at any depth below a pathlib folder and the links in it, whose names match a pattern."""
    return sorted({*folder.rglob(pattern), *folder.glob(f"*/**/{pattern}")})


def append(path, content):
    """Add bytes to the end of an ordinary file, or of a new one; errors as of `ordinary`."""
    with naming(path), open(path, "ab", opener=ordinary) as file:
        file.write(content)


def read_json(path, kind, remedy):
    """The content of a JSON file that this project wrote; it may have been changed since.

    Args:
        kind: its type, a dataclass for instance. The content must have its fields' types, and no other fields.
        remedy: what the user can do, for the message.

    Raises:
        FileNotFoundError: the file does not exist.
        UserError: it is not an ordinary file, or holds something else.
    """
    try:
        content = read_file(path, JSON_BYTES + 1)
        if len(content) > JSON_BYTES:
            raise ValueError(f"more than {JSON_BYTES:,} bytes")
        values = msgspec.json.decode(content)
        result = msgspec.convert(values, kind)
        if unknown := _unknown_names(values, msgspec.to_builtins(result)):
            raise ValueError(f"unknown: {shortened(', '.join(unknown))}")
        return result
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise UserError(f"{shortened(path)}: not what this project writes there ({first_line(error)}); {remedy}") from None


def _unknown_names(values, known):
    """Names of a file's fields, at any depth, that the object made of it does not have."""
    if not isinstance(values, dict):
        return []
    return [
        *(name for name in values if name not in known),
        *(below for name in values if name in known for below in _unknown_names(values[name], known[name])),
    ]


def write_json(path, content):
    """Write a dataclass, dict or list as JSON, the file whole or not at all."""
    write_whole(path, msgspec.json.format(msgspec.json.encode(content), indent=2))


def write_whole(path, content, durable=True):
    """Write bytes to `path` as `open_whole` does."""
    with open_whole(path, durable) as file:
        file.write(content)


@contextlib.contextmanager
def open_whole(path, durable=True):
    """A file to write under a temporary name, renamed to `path` at the end: readers and a killed run see all of it or none.

    Several runs may write the same file: each has a temporary name of its own, and the last one's content stays. `durable`
    waits for the disk, so not even a power cut leaves an empty file; tens of thousands of images are checked instead.
    """
    partial = partial_path(path)
    try:
        with naming(path):
            with open(partial, "wb") as file:
                yield file
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            os.replace(partial, path)
    except BaseException:
        if os.path.exists(partial):
            os.unlink(partial)
        raise


def check_space(folder, needed, what, remedy):
    """Refuse to begin what will not fit on the disk of a folder, which need not exist yet.

    `needed`: bytes; `what`: needs them; `remedy`: what the user can do.
    """
    existing = os.path.abspath(folder)
    while not os.path.exists(existing):
        existing = os.path.dirname(existing)
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise UserError(f"{folder}: {what} need {needed / 1e9:.3g} GB and {free / 1e9:.3g} GB are free; {remedy}")


def put_aside(path):
    """Rename a file or folder that another run left to its name with .previous-1, or the next free number; returns that."""
    stem, ending = os.path.splitext(path)
    names = (f"{stem}.previous-{number}{ending}" for number in itertools.count(1))
    kept = next(name for name in names if not os.path.exists(name))
    os.rename(path, kept)
    return kept


def partial_path(path):
    """A new name beside `path`, for a file or folder that is renamed to `path` when it is whole. No other call gives it."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name[:SHOWN]}.{uuid.uuid4().hex}{PARTIAL}")


def remove_abandoned(folder, older_than=ABANDONED_SECONDS):
    """Remove what killed runs left half-written in a folder.

    Other runs may write there: only names of `partial_path` that have not changed for `older_than` seconds go.
    """
    for entry in os.scandir(folder):
        if ABANDONED.fullmatch(entry.name):
            with contextlib.suppress(OSError):  # gone already, as another run removes them too, or not ours to remove
                if time.time() - entry.stat(follow_symlinks=False).st_mtime >= older_than:
                    shutil.rmtree(entry.path) if entry.is_dir(follow_symlinks=False) else os.unlink(entry.path)


@contextlib.contextmanager
def locked(folder, message, wait=False):
    """Hold the lock of a folder, made if it is missing, that one process at a time writes in; it ends with the process.

    So a half-written file that is there when the lock is taken was left by a killed run, and is removed. Where the file
    system has no locks, or this user may not write, work goes on without one: names of half-written files differ, and none
    goes before it is a day old.

    Args:
        folder: gets an empty file LOCK, which stays there.
        message: says that another process holds the lock, and what to do.
        wait: print the message and wait for the other process, instead of refusing.

    Raises:
        UserError: `message`.
        OSError: the folder cannot be made.
    """
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, LOCK)
    try:
        file = open(path, "ab", opener=ordinary)
    except OSError as error:
        if error.errno not in READ_ONLY:
            raise
        if not os.path.exists(path):
            yield  # who only finds that everything is finished needs no lock
            return
        file = open(path, "rb", opener=ordinary)  # of another user, who may be working there
    with file:
        patience = 0
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                raise UserError(message) from None
            print(message, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # no locks in this file system
            patience = ABANDONED_SECONDS
        remove_abandoned(folder, patience)
        yield
