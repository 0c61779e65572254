"""Files that are read only if they are ordinary ones, and written whole or not at all."""

import contextlib
import hashlib
import os
import platform
import re
import shutil
import stat
import time

import msgspec

from safa.runtime.errors import UserError, first_line, shortened

PARTIAL = ".partial"  # ending of files that are still being written
JSON_BYTES = 2**24  # far more than a note of this project has
LONGEST_NAME = 100  # bytes of a name that goes whole into a temporary one; file systems allow 143 (eCryptfs) or 255
ABANDONED_SECONDS = 7 * 24 * 3600  # since the last change of a half-written file; writing one takes hours at most


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


def read_json(path, kind, remedy):
    """The content of a JSON file that this project wrote; it may have been changed since.

    Args:
        path: of the file.
        kind: its type, a dataclass for instance. The content must have its fields' types, and no other fields.
        remedy: what the user can do, for the message.

    Returns:
        An object of that type.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it is not an ordinary file, or holds something else.
    """
    try:
        with open(path, "rb", opener=ordinary) as file:
            content = file.read(JSON_BYTES + 1)
        if len(content) > JSON_BYTES:
            raise ValueError(f"more than {JSON_BYTES:,} bytes")
        values = msgspec.json.decode(content)
        result = msgspec.convert(values, kind)
        if unknown := _unknown_names(values, msgspec.to_builtins(result)):
            raise ValueError(f"unknown: {shortened(', '.join(unknown))}")
        return result
    except (ValueError, RecursionError) as error:
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

    The temporary name holds machine and process, so several runs may write the same folder. `durable` waits for
    the disk, so not even a power cut leaves an empty file; tens of thousands of images are checked instead.
    """
    partial = partial_path(path)
    try:
        with open(partial, "wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException as error:
        if os.path.exists(partial):
            os.unlink(partial)
        if isinstance(error, OSError):
            error.filename = path  # a write that fails for lack of space does not name its file
        raise


def check_space(folder, needed, what, remedy):
    """Refuse to begin what will not fit on a disk.

    Args:
        folder: for the files; the nearest one above it that exists is asked.
        needed: bytes.
        what: needs them, for the message.
        remedy: what the user can do.

    Raises:
        UserError: says how much is needed and how much is free.
    """
    existing = os.path.abspath(folder)
    while not os.path.exists(existing):
        existing = os.path.dirname(existing)
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise UserError(f"{folder}: {what} need {needed / 1e9:.3g} GB and {free / 1e9:.3g} GB are free; {remedy}")


def allocate(path):
    """Take the space of a new file that is mapped into memory: a full disk is an error here, and ends the process later.

    Raises:
        OSError: there is too little space.
    """
    if hasattr(os, "posix_fallocate"):
        with open(path, "r+b") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, os.path.getsize(path))
            except OSError as error:
                error.filename = path
                raise


def sources_digest(paths):
    """What files are, without reading them: a digest of their paths, sizes and times of change."""
    digest = hashlib.sha256()
    for path in paths:
        status = os.stat(path)
        digest.update(f"{os.path.abspath(path)}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def partial_path(path):
    """Where this process makes a file or folder that gets the name `path` when it is whole."""
    folder, name = os.path.split(path)
    encoded = os.fsencode(name)
    if len(encoded) > LONGEST_NAME:  # the additions must not make it longer than the file system allows
        name = hashlib.sha256(encoded).hexdigest()[:16]
    return os.path.join(folder, f".{name}.{_writer()}{PARTIAL}")


def remove_abandoned(folder):
    """Remove what killed runs left half-written in a folder; files of running ones stay.

    Those of other machines, and of containers that are gone, are removed a week after their last change.
    """
    machine = _writer().rpartition("-")[0]
    for entry in os.scandir(folder):
        name = re.fullmatch(rf"\..+\.([^.]*)-(\d+){re.escape(PARTIAL)}", entry.name, re.DOTALL)
        if name is None:
            continue
        with contextlib.suppress(OSError):  # gone already, as another run removes them too, or not ours to remove
            age = time.time() - entry.stat(follow_symlinks=False).st_mtime
            if _runs(int(name[2])) if name[1] == machine else age < ABANDONED_SECONDS:
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                os.unlink(entry.path)


def _writer():
    return f"{platform.node().partition('.')[0]}-{os.getpid()}"


def _runs(process):
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    try:  # one that has ended keeps its number until its parent asks for it: in containers often for ever
        with open(f"/proc/{process}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return True
