"""A network's weights from files and into them: ours, the authors' and Keras's."""

import io
import warnings

import keras
import numpy as np

from safa.runtime.errors import UserError, first_few, first_line
from safa.runtime.files import write_whole
from safa.training import published_checkpoint
from safa.training.checkpoint_files import KERAS, TENSORFLOW, array_names
from safa.training.tensorflow_files import open_checkpoint
from safa.training.variables import ADAM, AVERAGE, LOSS, MOMENTS, NETWORK, SEED, STEP, network_variables, network_weights

OTHER = "name its network with --network_type, --polar, --backbone, --shared and the sizes, or use another checkpoint"


class _KerasFile(io.BytesIO):
    """A file of Keras weights in memory. Keras insists on the ending of its name."""

    def __str__(self):
        return "in_memory.weights.h5"


def write_keras_weights(path, network):
    """Write a network's weights as Keras does, the file whole or not at all. Raises OSError if it cannot be written.

    They are put together in memory: HDF5 crashes the process when a disk is full.
    """
    content, loss_layer = _KerasFile(), network.loss_layer
    network.loss_layer = None  # whoever loads the file has none
    network.save_weights(content)
    network.loss_layer = loss_layer
    if not content.getbuffer().nbytes:  # Keras before 3.10 takes the buffer for a name
        raise UserError(f"{path}: Keras {keras.__version__} writes no weights; pip install -r requirements.txt")
    write_whole(path, content.getbuffer())


def load_weights(network, path, kind, description):
    """Load a network's weights from a file that `checkpoint_files.find_checkpoint` found; all of them or none.

    Args:
        network: spatial_net.Network.
        path, kind: of the file.
        description: of the network, for messages.

    Returns:
        A line on the optimizer's variables in a checkpoint of the authors', which are skipped; None where there are none.

    Raises:
        UserError: the file is damaged, holds another network, or weights that are not finite.
    """
    if kind not in (KERAS, TENSORFLOW):
        raise UserError(f"{path}: {kind}, of which only VGG16's starting weights are read; use it with --init")
    variables, note = network_variables(network), None
    try:
        if kind == KERAS:
            held = [name for name in array_names(path) if name.startswith(("sat/", "grd/", "layers/"))]  # in the branches
            before = network.get_weights()
            with warnings.catch_warnings():  # what does not fit is an error below
                warnings.simplefilter("ignore")
                network.load_weights(path)
            tensors = {name: variable.numpy() for name, variable in variables.items()}
            network.set_weights(before)
            kept, own = (sum(SEED not in name for name in names) for names in (held, variables))
            if kept > own:  # Keras leaves the others out without a word
                raise UserError(f"{path}: holds {kept} arrays, and {description} has {own}; {OTHER}")
        else:
            with open_checkpoint(path) as reader:
                shapes = reader.get_variable_to_shape_map()
                keys = _keys(shapes, network, path, description)
                tensors = {name: reader.get_tensor(key) for name, key in keys.items()}
                if published_checkpoint.MARK in shapes and (names := sorted(set(shapes) - set(keys.values()))):
                    what = f"{len(names)} variables of the optimizer ({first_few(names)})"
                    note = f"{path}: {what} are skipped; only the weights are used"
    except UserError:
        raise
    except Exception as error:  # TensorFlow's and HDF5's readers raise many kinds for broken bytes
        what = f"{path}: cannot be read as weights of {description} ({first_line(error)})"
        raise UserError(f"{what}; it is damaged or another network's: copy it again, or use another one") from None
    wrong = [name for name, tensor in tensors.items() if not np.isfinite(tensor).all()]
    if wrong:
        what = f"{len(wrong)} weights are not finite, the first {wrong[0]}"
        raise UserError(f"{path}: {what}; its network has diverged: use an earlier checkpoint")
    for name, tensor in tensors.items():
        variables[name].assign(tensor)
    return note


def _keys(shapes, network, path, description):
    """{our name of a weight: its key in a TensorFlow checkpoint}, ours or the authors', after accounting for all."""
    variables = network_variables(network)
    if published_checkpoint.MARK in shapes:
        published = published_checkpoint.published_names(network)
        keys = {name: published.get(name, name) for name in variables}
        others = [key for key, shape in shapes.items() if not published_checkpoint.is_bookkeeping(key, shape)]
    else:
        others = [key for key in shapes if key.startswith(NETWORK) and not key.startswith(f"{NETWORK}{LOSS}/")]
        if not others:
            what = f"{path}: a checkpoint of something else (it holds {first_few(sorted(shapes))}), or of a version before 1.0"
            raise UserError(f"{what}; name a checkpoint of this project or the authors'")
        averages = {name: f"{ADAM}{name}/{AVERAGE}" for name in variables}  # what a run that keeps them validates
        keys = {name: averages[name] if averages[name] in shapes else NETWORK + name for name in variables}
        others = set(others) - {NETWORK + name for name in variables}
    found = {name: (shapes.get(key), list(variables[name].shape)) for name, key in keys.items()}
    wrong = {
        "missing": [name for name, (shape, _) in found.items() if shape is None],
        "misshapen": [f"{name} {shape} instead of {own}" for name, (shape, own) in found.items() if shape not in (None, own)],
        "unexpected": sorted(set(others) - set(keys.values())),
    }
    if counts := [f"{len(names)} {what} ({first_few(names)})" for what, names in wrong.items() if names]:
        raise UserError(f"{path}: not a checkpoint of {description}: {', '.join(counts)}; {OTHER}")
    return keys


def optimizer_state(path, network):
    """Adam's step and moments from a TensorFlow checkpoint of a training run, ours or the authors'.

    Returns and raises as `published_checkpoint.optimizer_state`; `path`: prefix of its files.
    """
    with open_checkpoint(path) as reader:
        shapes = reader.get_variable_to_shape_map()
        if published_checkpoint.MARK in shapes:
            return published_checkpoint.optimizer_state(path, reader, network)
        keys = {(name, moment): f"{ADAM}{name}/{moment}" for name in network_weights(network) for moment in MOMENTS}
        if not {STEP, *keys.values()} <= shapes.keys():  # of a best checkpoint, or of another optimizer
            return 0, None
        return int(reader.get_tensor(STEP)), {moments: reader.get_tensor(key) for moments, key in keys.items()}
