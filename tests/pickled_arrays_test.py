"""A vgg16.npy gives its arrays, whoever wrote it, and a hostile one gives a line: no code, no pointers, no memory."""

import io
import os
import pickle

import numpy as np
import pytest
from conftest import ROOT, start

from safa.runtime.errors import UserError
from safa.training.initial_weights import vgg16_npy

ARRAYS = {
    "conv1_1": [np.asfortranarray(np.arange(108, dtype=np.float32).reshape(3, 3, 3, 4)), np.ones(4, np.float32)],
    "conv1_2": [np.full((2, 3), 2.5, ">f8"), np.arange(3)],
    "fc6": [np.zeros((2, 2)), np.zeros(2)],
}


def write_npy(path, pickled):
    """Write an .npy file around a pickle, as np.save does."""
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
        file.write(pickled)


class Python2Pickler(pickle._Pickler):
    """Writes strings as Python 2 does, which has one kind, and names as NumPy 1 does."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_string(self, text):
        content = text if isinstance(text, bytes) else text.encode()
        self.write(pickle.BINSTRING + len(content).to_bytes(4, "little") + content)
        self.memoize(text)

    dispatch[str] = dispatch[bytes] = save_string


@pytest.mark.parametrize("writer", ["Python 2", "NumPy 1", 2, 3, 4])
def test_arrays_are_read_from_every_writers_file(writer, tmp_path):
    content = io.BytesIO()
    pickler = Python2Pickler if writer == "Python 2" else pickle.Pickler
    pickler(content, writer if isinstance(writer, int) else 2).dump(np.array(ARRAYS, dtype=object))
    pickled = content.getvalue()
    if writer in ("Python 2", "NumPy 1"):
        pickled = pickled.replace(b"numpy._core", b"numpy.core")
    write_npy(tmp_path / "vgg16.npy", pickled)
    read = vgg16_npy(str(tmp_path / "vgg16.npy"))
    assert sorted(read) == ["conv1_1", "conv1_2"]
    for name, arrays in read.items():
        for array, expected in zip(arrays, ARRAYS[name], strict=True):
            assert array.dtype == np.float32 and array.shape == expected.shape
            np.testing.assert_array_equal(array, expected)


class Asks:
    """Pickled as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def hostile(folder):
    """{name: pickle} that would run code, make pointers, or take memory."""
    array = pickle.dumps(np.array({"conv1_1": [np.zeros(3, np.float32)] * 2}, dtype=object), 4)
    return {
        "code": pickle.dumps({"conv1_1": Asks(os.mkdir, str(folder / "trap"))}, 2),
        "pointers": pickle.dumps({"conv1_1": Asks(np.ndarray, (1,), np.dtype("O"), b"AAAAAAAA")}, 2),
        "objects": array.replace(b"f4", b"O8"),
        "beyond": array.replace(b"K\x03\x85", b"J\xff\xff\xff\x7f\x85"),
        "memo": b"\x80\x02]r\xff\xff\xff\x3f.",
        "long": b"\x80\x02\x8b\xff\xff\xff\x7f1.",
        "bytes": b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x0f1.",
        "frame": b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x0f1.",
        "nested": b"\x80\x02" + b"(" * 200_000 + b"t" * 200_000 + b".",
        "extension": b"\x80\x02\x82\x01.",
        "nothing": b"",
    }


def test_a_hostile_file_ends_in_one_line(tmp_path):
    for name, pickled in hostile(tmp_path).items():
        write_npy(tmp_path / f"{name}.npy", pickled)
    # In a process of its own with little memory: pointers would crash it, and a memo of 2^30 entries never end.
    paths = sorted(str(path) for path in tmp_path.glob("*.npy"))
    process = start("tests/programs/hostile_arrays.py", *paths, cwd=ROOT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    lines = output.splitlines()
    assert len(lines) == len(paths)
    assert all(line.startswith(f"{path}: ") and "use Keras's file" in line for line, path in zip(lines, paths, strict=True))
    assert "mkdir" in lines[paths.index(str(tmp_path / "code.npy"))] and not (tmp_path / "trap").exists()


def test_damaged_files_are_refused_or_read(tmp_path):
    from mutations import mutated

    write_npy(tmp_path / "vgg16.npy", pickle.dumps(np.array(ARRAYS, dtype=object), 4))
    whole = (tmp_path / "vgg16.npy").read_bytes()
    for number in range(210):
        (tmp_path / "vgg16.npy").write_bytes(mutated(whole, number)[1])
        try:
            read = vgg16_npy(str(tmp_path / "vgg16.npy"))
        except UserError as error:
            assert "\n" not in str(error) and "vgg16.npy" in str(error)
        else:
            assert all(array.dtype == np.float32 for arrays in read.values() for array in arrays)
