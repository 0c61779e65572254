"""What a path that should be a checkpoint really is, found out from its bytes before TensorFlow starts."""

import hashlib
import os
import re
import zipfile

from safa.runtime.errors import UserError, shortened
from safa.runtime.files import read_file

KERAS, TENSORFLOW = "Keras weights", "TensorFlow checkpoint"
KERAS_MODEL, NUMPY = "Keras model", "NumPy arrays"  # zip archives, which VGG16's weights come in
INDEX, DATA = ".index", ".data-00000-of-00001"
INDEX_END = bytes.fromhex("57fb808b247547db")  # magic number at the end of TensorFlow's sorted string tables
RUN_FILE = re.compile(r"ckpt-([0-9]{1,18})\.(index|data-[0-9]{5}-of-[0-9]{5})")  # of a training run's checkpoint
ARCHIVES = {b"\x1f\x8b": "gzip", b"Rar!": "rar", b"7z\xbc\xaf": "7z"}  # by their first bytes


def find_checkpoint(path):
    """The weights that a path names, recognised by their content.

    Args:
        path: prefix of a TensorFlow checkpoint's files, one of these files, a folder (its newest checkpoint is
            taken), or a file of Keras weights (HDF5, or a .keras archive) or NumPy arrays (.npz).

    Returns:
        path: of the file, or the prefix of a TensorFlow checkpoint.
        kind: KERAS, TENSORFLOW, KERAS_MODEL or NUMPY.

    Raises:
        UserError: the path does not hold weights; says what it is instead, and what to do.
    """
    if os.path.isdir(path):
        return find_checkpoint(_newest(path))
    prefix = path.removesuffix(INDEX).removesuffix(DATA).removesuffix(".meta")
    if os.path.exists(prefix + INDEX):
        _check_tensorflow_files(prefix)
        return prefix, TENSORFLOW
    if os.path.exists(prefix + DATA):
        raise UserError(f"{prefix}{INDEX}: not found beside {prefix}{DATA}; a checkpoint needs both files")
    if not os.path.exists(path):
        raise UserError(f"{path}: no checkpoint of this name (neither this file nor {prefix}{INDEX} exists)")
    start = _first_bytes(path)
    if start.startswith(b"PK\x03\x04"):
        return path, _kind_of_archive(path)
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        return path, KERAS
    raise UserError(f"{path}: neither a TensorFlow checkpoint nor Keras weights; name one of these")


def _kind_of_archive(path):
    """What a zip archive is, by the names of its files."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        raise UserError(f"{path}: a damaged zip archive; copy or download the file again") from None
    if "model.weights.h5" in names:
        return KERAS_MODEL
    if names and all(name.endswith(".npy") for name in names):
        return NUMPY
    if any(name.endswith("data.pkl") for name in names):
        raise UserError(f"{path}: a PyTorch file, whose VGG16 takes other images; use Keras's file or vgg16_weights.npz")
    raise UserError(f"{path}: a zip archive, not weights; unpack it and name the checkpoint inside")


def use_checkpoint(path, use):
    """Use the weights that a path names while a training run may be replacing them.

    Args:
        path: as of `find_checkpoint`.
        use: function of the path and the kind that `find_checkpoint` returns. It is called again if it fails on a
            folder whose checkpoints were replaced meanwhile.

    Returns:
        What `use` does.

    Raises:
        UserError: as of `find_checkpoint` and `use`.
    """
    while True:
        before = _indices(path)
        try:
            return use(*find_checkpoint(path))
        except (UserError, FileNotFoundError):
            if _indices(path) == before:
                find_checkpoint(path)  # says so where it has gone
                raise


def checkpoint_digest(path):
    """Digest of a checkpoint that `find_checkpoint` found: 16 hexadecimal digits, known without TensorFlow.

    Of a TensorFlow checkpoint its index counts, which holds a checksum of every tensor.
    """
    index = path + INDEX
    return hashlib.sha256(read_file(index if os.path.exists(index) else path)).hexdigest()[:16]


def run_checkpoints(folder):
    """A run's checkpoints by the names of their files, of which some may be missing: {number: prefix}, ascending."""
    numbers = {int(match[1]) for match in map(RUN_FILE.fullmatch, os.listdir(folder)) if match}
    return {number: os.path.join(folder, f"ckpt-{number}") for number in sorted(numbers)}


def remove_checkpoint(prefix):
    """Remove a checkpoint's files, the index first: without it, TensorFlow does not see a checkpoint."""
    folder, name = os.path.split(prefix)
    for other in sorted(os.listdir(folder), reverse=True):
        if other == name + INDEX or other.startswith(name + ".data-"):
            os.unlink(os.path.join(folder, other))


def remove_leftovers(folder):
    """Remove the newest checkpoint's data if a kill left it without its index, in a folder where no other run is training."""
    prefixes = list(run_checkpoints(folder).values())
    if prefixes and [prefix for prefix in prefixes if not os.path.exists(prefix + INDEX)] == prefixes[-1:]:
        remove_checkpoint(prefixes[-1])


def array_names(path, content=None):
    """Names of all arrays in an HDF5 file; refuses one that leads to other files (CVE-2026-1669, for instance).

    `content`: of the file, where it is read from memory. Raises UserError with the first's name; OSError if it is not HDF5.
    """
    import h5py

    found = {}  # by their addresses: names may stand for the same thing

    def walk(group):
        for name in group:
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.SoftLink):
                continue  # what it leads to in this file is walked where it stands
            item = None if isinstance(link, h5py.ExternalLink) else group[name]
            if item is None or isinstance(item, h5py.Dataset) and (item.external or item.is_virtual):
                raise UserError(f"{path}: {shortened(name)} lies in another file; use a file that holds its own content")
            address = h5py.h5o.get_info(item.id).addr
            if address not in found:
                found[address] = item.name.removeprefix("/") if isinstance(item, h5py.Dataset) else None
                if isinstance(item, h5py.Group):
                    walk(item)

    with h5py.File(content or path) as file:
        walk(file)
    return [name for name in found.values() if name is not None]


def _indices(path):
    return sorted(name for name in os.listdir(path) if name.endswith(INDEX)) if os.path.isdir(path) else []


def _newest(folder):
    found = [name.removesuffix(INDEX) for name in _indices(folder)]
    if not found:
        raise UserError(f"{folder}: a folder without a checkpoint in it (no file *{INDEX}); name a checkpoint, or train first")

    def number(name):
        digits = name.rpartition("-")[2]
        return int(digits) if digits.isdecimal() and len(digits) < 19 else 0

    return os.path.join(folder, max(found, key=lambda name: (number(name), name)))


def _check_tensorflow_files(prefix):
    _first_bytes(prefix + INDEX)
    if not read_file(prefix + INDEX).endswith(INDEX_END):
        raise UserError(f"{prefix}{INDEX}: not a TensorFlow checkpoint's index, or cut off; copy or download the file again")
    folder, name = os.path.split(prefix)
    parts = [other for other in os.listdir(folder or ".") if other.startswith(name + ".data-")]
    if not parts:
        raise UserError(f"{prefix}{DATA}: not found beside {prefix}{INDEX}; a checkpoint needs both files")
    for part in parts:
        _first_bytes(os.path.join(folder, part), of_numbers=True)


def _first_bytes(path, of_numbers=False):
    """First bytes of a file; raises if the file cannot hold weights. Numbers may begin like a one-byte mark."""
    start = read_file(path, 64)
    if not start:
        raise UserError(f"{path}: empty; copy or download the file again")
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml") if of_numbers else b"<"):
        raise UserError(f"{path}: an HTML or XML page, not weights; the download failed; download the file again")
    for archive in (kind for mark, kind in ARCHIVES.items() if start.startswith(mark)):
        raise UserError(f"{path}: a {archive} archive, not weights; unpack it and name the checkpoint inside")
    return start
