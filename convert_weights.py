"""Convert weights between the authors' TensorFlow 1 checkpoints and this project's, both ways.

TARGET FILE.weights.h5 writes Keras weights; any other TARGET writes a checkpoint with the authors' names and shapes
(TARGET.index, TARGET.data-00000-of-00001), Adam's moments, powers and step counter included, which the authors' code
restores.
SOURCE is either kind, or a checkpoint of a training run, recognised by its content.
"""

import os

from safa.loading import found_network, load_network
from safa.runtime.backend import importing_tensorflow
from safa.runtime.command_line import Parser
from safa.runtime.errors import UserError, reported
from safa.settings import add_network, given_network
from safa.training.checkpoint_files import DATA, INDEX, TENSORFLOW, find_checkpoint

KERAS_ENDING = ".weights.h5"


def flags():
    """The script's flags."""
    parser = Parser(__doc__)
    parser.add_argument("source", metavar="SOURCE", help="checkpoint or weights file to read")
    parser.add_argument("target", metavar="TARGET", help="file or checkpoint to write")
    parser.add_argument("--overwrite", action="store_true", help="replace TARGET if it exists")
    add_network(parser, from_checkpoint=True)
    return parser


def main(argv=None):
    args = flags().parse_args(argv)
    to_keras = args.target.endswith(KERAS_ENDING)
    written = written_files(args.target, to_keras, args.overwrite)
    network, _ = found_network(args.source, given_network(args))
    with importing_tensorflow():
        from safa.training import published_checkpoint, weights
    loaded = load_network(args.source, network)
    if to_keras:
        if loaded.note is not None:
            print(loaded.note)
        weights.write_keras_weights(args.target, loaded.model)
    else:
        step, moments = 0, None
        if find_checkpoint(loaded.path)[1] == TENSORFLOW:
            step, moments = weights.optimizer_state(loaded.path, loaded.model)
        published_checkpoint.write(args.target, loaded.model, step, moments)
        print(f"Adam's moments and step: {'none in SOURCE, written as not begun' if moments is None else step}")
    print(f"{args.source} ({network}) -> {', '.join(written)}")


def written_files(target, to_keras, overwrite):
    """Paths of the files that a target is made of.

    Raises:
        UserError: it has no usable name, its folder does not exist, or it exists and is not to be replaced.
    """
    name, folder = os.path.basename(target), os.path.dirname(target) or "."
    if not name or not to_keras and name.endswith((".h5", ".keras", INDEX, DATA)):
        raise UserError(
            f"TARGET {target!r}: name a file *{KERAS_ENDING}, or a checkpoint: model.ckpt, for instance, of which "
            f"model.ckpt{INDEX} and model.ckpt{DATA} are made"
        )
    paths = [target] if to_keras else [target + INDEX, target + DATA]
    for path in paths:
        if os.path.isdir(path) or os.path.exists(path) and not overwrite:
            raise UserError(f"{path}: exists; choose another TARGET, or replace a file with --overwrite")
    if not os.path.isdir(folder):
        raise UserError(f"{folder}: no such folder; make it, or choose another TARGET")
    return paths


if __name__ == "__main__":
    with reported():
        main()
