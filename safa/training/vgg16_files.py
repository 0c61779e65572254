"""VGG16's weights in the files in which people have them: Keras's, old and new, whole or without top, and NumPy's."""

import io
import re
import zipfile

import h5py
import numpy as np

from safa.runtime.errors import UserError, first_line
from safa.runtime.hdf5 import refuse_foreign_content
from safa.training.checkpoint_files import KERAS_MODEL, NUMPY
from VGG import BLOCKS

NAMES = [name for block in BLOCKS for name, _ in block]
KERAS_FILE = "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
SOURCES = f"Keras's {KERAS_FILE}, vgg16_weights.npz, or the authors' initial_model.ckpt"


def read_vgg16(path, kind):
    """VGG16's convolutions from a file.

    Args:
        path, kind: of the file (`checkpoint_files.find_checkpoint`): NUMPY, KERAS_MODEL or KERAS.

    Returns:
        {"conv1_1": (kernel, bias), ...}, float32, for BGR images less the mean.

    Raises:
        UserError: it holds something else, or is damaged.
    """
    try:
        if kind == NUMPY:
            with np.load(path, allow_pickle=False) as arrays:
                weights = {name: (arrays[f"{name}_W"], arrays[f"{name}_b"]) for name in NAMES}
        elif kind == KERAS_MODEL:
            with zipfile.ZipFile(path) as archive:
                weights = _of_keras(path, io.BytesIO(archive.read("model.weights.h5")))
        else:
            weights = _of_keras(path, path)
    except UserError:
        raise
    except Exception as error:  # the readers raise many kinds for broken bytes
        raise UserError(f"{path}: not VGG16's weights, or damaged ({first_line(repr(error))}); use {SOURCES}") from None
    return weights | {"conv1_1": _for_bgr(*weights["conv1_1"])}


def _of_keras(path, content):
    """The 3x3 convolutions of an HDF5 file, in the order of their names, in which numbers count as such."""
    found = {}

    def collect(name, item):
        if isinstance(item, h5py.Dataset) and item.ndim in (1, 4) and "optimizer" not in name:
            order = (int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name))
            found[(item.ndim, *order)] = item[()]

    refuse_foreign_content(path, content)
    with h5py.File(content) as file:
        file.visititems(collect)
    biases, kernels = ([found[key] for key in sorted(found) if key[0] == ndim] for ndim in (1, 4))
    if len(kernels) != len(NAMES):
        raise ValueError(f"{len(kernels)} convolutions instead of {len(NAMES)}")
    return dict(zip(NAMES, zip(kernels, biases, strict=False), strict=True))


def _for_bgr(kernel, bias):
    """A first convolution for BGR images: vgg16_weights.npz has it for RGB.

    VGG16's first kernels weigh red more than blue: their absolute values add up to 98.2 and 86.6.
    """
    red_first = kernel.ndim == 4 and np.abs(kernel[:, :, 0]).sum() > np.abs(kernel[:, :, -1]).sum()
    return kernel[:, :, ::-1] if red_first else kernel, bias
