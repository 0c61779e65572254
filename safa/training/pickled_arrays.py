"""A `vgg16.npy` read without trusting it: a pickle may ask for any function, and for any object around any bytes.

Its operations are looked through first; then numbers, texts, lists and dicts are built as they stand in the file, and
NumPy's arrays by this module, from bytes whose type and shape it has compared with their length.
"""

import io
import math
import pickle
import pickletools
import re

import numpy as np

from safa.runtime.errors import UserError
from safa.runtime.files import ordinary

REMEDY = "use Keras's file, or a vgg16.npy from a source that you trust"
# All that a dict of lists of arrays needs, in protocols 2 (Python 2) to 4.
OPERATIONS = set(
    """PROTO FRAME STOP MARK GLOBAL STACK_GLOBAL REDUCE BUILD BINPUT LONG_BINPUT MEMOIZE BINGET
    LONG_BINGET NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES
    BINUNICODE SHORT_BINUNICODE EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS EMPTY_DICT SETITEM
    SETITEMS""".split()
)
NUMBERS = re.compile("[fiu][1248]")  # dtypes; no objects, which would be pointers
GREATEST_RANK = 8


def vgg16_npy(path):
    """VGG16's convolutions from a `vgg16.npy`, a pickled dict {"conv1_1": [kernel, bias], ...}.

    Returns:
        {name: (kernel, bias)}, float32.

    Raises:
        UserError: it is something else, or asks for more than arrays of numbers need.
    """
    try:
        with open(path, "rb", opener=ordinary) as file:
            np.lib.format.read_magic(file)
            _, _, dtype = np.lib.format.read_array_header_1_0(file)
            if not dtype.hasobject:
                raise ValueError("not a dict")
            pickled = file.read()
        _check_operations(pickled, path)
        content = _unpickle(pickled, path).numbers
        named = {_text(name): [array.numbers for array in arrays] for name, arrays in content.items()}
        return {
            name: tuple(array.astype(np.float32) for array in arrays)
            for name, arrays in named.items()
            if name.startswith("conv")
        }
    except UserError:
        raise
    except Exception:  # whatever broken bytes lead the unpickler to
        raise UserError(f"{path}: not a dict of arrays, conv1_1: [kernel, bias] and so on; {REMEDY}") from None


def _check_operations(pickled, path):
    """Refuse operations that build something else, or that reserve memory for more than the file holds."""
    for count, (operation, argument, _) in enumerate(pickletools.genops(pickled)):
        if operation.name not in OPERATIONS or operation.name.endswith("BINPUT") and argument > count:
            raise UserError(
                f"{path}: refused, since its pickle holds {operation.name} {argument!r:.20}, which arrays do not need; {REMEDY}"
            )


def _unpickle(pickled, path):
    def encode(text, encoding):
        return text.encode(encoding)  # how Python 3 writes bytes in protocol 2

    known = {(f"numpy.{core}.multiarray", "_reconstruct"): _Array for core in ("core", "_core")}
    known |= {("numpy", "ndarray"): None, ("numpy", "dtype"): _Dtype, ("_codecs", "encode"): encode}

    class Unpickler(pickle.Unpickler):
        def find_class(self, module, name):
            if (module, name) not in known:
                raise UserError(f"{path}: refused, since loading it would run {module}.{name}; {REMEDY}")
            return known[module, name]

    return Unpickler(io.BytesIO(pickled), encoding="bytes").load()  # Python 2's strings hold the arrays' bytes


class _Dtype:
    """Stands for `numpy.dtype`: `numbers` is one of numbers, or None for objects."""

    def __init__(self, kind, *_):
        kind = _text(kind)
        if kind != "O8" and not NUMBERS.fullmatch(kind):
            raise ValueError(kind)
        self.numbers = None if kind == "O8" else np.dtype(kind)

    def __setstate__(self, state):
        if self.numbers is not None:
            self.numbers = self.numbers.newbyteorder(_text(state[1]))


class _Array:
    """Stands for `numpy.ndarray`: `numbers` is an array of numbers, or what the array of one object holds."""

    def __init__(self, *_):
        pass

    def __setstate__(self, state):
        _, shape, dtype, is_fortran, content = state
        if dtype.numbers is None:
            (self.numbers,) = content  # a list of one
            return
        if (
            type(content) is not bytes
            or len(shape) > GREATEST_RANK
            or not all(type(side) is int and 0 <= side <= len(content) for side in shape)
            or (math.prod(shape) * dtype.numbers.itemsize != len(content))
        ):
            raise ValueError(f"shape {shape}")
        self.numbers = np.frombuffer(content, dtype.numbers).reshape(shape, order="F" if is_fortran else "C")


def _text(text):
    return text.decode() if isinstance(text, bytes) else text
