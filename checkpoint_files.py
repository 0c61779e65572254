"""What a path that should be a checkpoint really is, found out from its bytes before TensorFlow starts."""
import os

from errors import UserError

KERAS, TENSORFLOW, NUMPY = "Keras weights", "TensorFlow checkpoint", "NumPy file"
INDEX, DATA = ".index", ".data-00000-of-00001"
INDEX_END = bytes.fromhex("57fb808b247547db")  # magic number at the end of TensorFlow's sorted string tables
# What downloads leave behind when they fail or are not unpacked: first bytes, name, remedy.
NOT_WEIGHTS = (
    (b"<", "an HTML or XML page", "the download failed; download the file again"),
    (b"PK\x03\x04", "a zip archive", "unpack it and name the checkpoint inside"),
    (b"\x1f\x8b", "a gzip archive", "unpack it and name the checkpoint inside"),
    (b"Rar!", "a rar archive", "unpack it and name the checkpoint inside"),
    (b"7z\xbc\xaf", "a 7z archive", "unpack it and name the checkpoint inside"),
)


def find_checkpoint(path):
    """The weights that a path names, recognised by their content.

    Args:
        path: prefix of a TensorFlow checkpoint's files, one of these files, a folder (its newest checkpoint is
            taken), or a file of Keras weights (HDF5) or NumPy arrays.

    Returns:
        path: of the file, or the prefix of a TensorFlow checkpoint.
        kind: KERAS, TENSORFLOW or NUMPY.

    Raises:
        UserError: there are no weights there; says what it is instead, and what to do.
    """
    if os.path.isdir(path):
        return find_checkpoint(_newest(path))
    prefix = path.removesuffix(INDEX).removesuffix(DATA).removesuffix(".meta")
    if os.path.isfile(prefix + INDEX):
        _check_tensorflow_files(prefix)
        return prefix, TENSORFLOW
    if os.path.isfile(prefix + DATA):
        raise UserError(f"{prefix}{INDEX}: not found beside {prefix}{DATA}; a checkpoint needs both files")
    if not os.path.isfile(path):
        raise UserError(f"{path}: no checkpoint of this name (neither this file nor {prefix}{INDEX} exists)")
    start = _first_bytes(path)
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        return path, KERAS
    if start.startswith(b"\x93NUMPY"):
        return path, NUMPY
    raise UserError(f"{path}: neither a TensorFlow checkpoint nor Keras weights nor a NumPy file; name one of these")


def _newest(folder):
    found = [name.removesuffix(INDEX) for name in os.listdir(folder) if name.endswith(INDEX)]
    if not found:
        raise UserError(f"{folder}: a folder without a checkpoint in it (no file *{INDEX}); name a checkpoint, such as "
                        f"{os.path.join(folder, 'model.ckpt')}, or train first")

    def number(name):
        digits = name.rpartition("-")[2]
        return int(digits) if digits.isdecimal() else 0
    return os.path.join(folder, max(found, key=lambda name: (number(name), name)))


def _check_tensorflow_files(prefix):
    _first_bytes(prefix + INDEX)
    with open(prefix + INDEX, "rb") as file:
        if not file.read().endswith(INDEX_END):
            raise UserError(f"{prefix}{INDEX}: not the index of a TensorFlow checkpoint, or cut off; copy or download "
                            "the file again")
    folder, name = os.path.split(prefix)
    if not any(other.startswith(name + ".data-") for other in os.listdir(folder or ".")):
        raise UserError(f"{prefix}{DATA}: not found beside {prefix}{INDEX}; a checkpoint needs both files")
    if os.path.isfile(prefix + DATA):
        _first_bytes(prefix + DATA, of_numbers=True)


def _first_bytes(path, of_numbers=False):
    """First bytes of a file; raises for what is no weights file at all. Numbers may begin like a one-byte mark."""
    with open(path, "rb") as file:
        start = file.read(64)
    if not start:
        raise UserError(f"{path}: empty; copy or download the file again")
    text = start.lstrip().lower()
    for mark, name, remedy in NOT_WEIGHTS:
        if text.startswith((b"<!doctype", b"<html", b"<?xml") if of_numbers and mark == b"<" else mark.lower()):
            raise UserError(f"{path}: {name}, not weights; {remedy}")
    return start
