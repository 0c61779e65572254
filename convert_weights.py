"""Convert weights between the authors' TensorFlow 1 checkpoints and this project's, both ways.

TARGET FILE.weights.h5 writes Keras weights; any other TARGET writes a checkpoint with the authors' names and shapes
(TARGET.index, TARGET.data-00000-of-00001), Adam's slots, powers and step counter included, which the authors' code
restores.
SOURCE is either kind, or a checkpoint of a training run, recognised by its content.
"""

import os

from safa.runtime.backend import importing_tensorflow
from safa.runtime.command_line import Parser
from safa.runtime.errors import UserError, reported
from safa.settings import add_network
from safa.training.checkpoint_files import DATA, INDEX, use_checkpoint
from safa.training.run_folder import checkpoint_network

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
    name = os.path.basename(args.target)
    if not name or not to_keras and name.endswith((".h5", ".keras", INDEX, DATA)):
        raise UserError(
            f"TARGET {args.target!r}: name a file *{KERAS_ENDING}, or a checkpoint: model.ckpt, for instance, of "
            f"which model.ckpt{INDEX} and model.ckpt{DATA} are made"
        )
    written = [args.target] if to_keras else [args.target + INDEX, args.target + DATA]
    for path in written:
        if os.path.isdir(path) or os.path.exists(path) and not args.overwrite:
            raise UserError(f"{path}: exists; choose another TARGET, or replace a file with --overwrite")
    folder = os.path.dirname(args.target) or "."
    if not os.path.isdir(folder):
        raise UserError(f"{folder}: no such folder; make it, or choose another TARGET")
    config = use_checkpoint(args.source, lambda path, _: checkpoint_network(args, path))

    with importing_tensorflow():
        import spatial_net
        from safa.training import published_checkpoint, weights
    network = spatial_net.network(config)
    variables = weights.network_weights(network)

    def load(path, kind):
        aside = weights.load_weights(network, path, kind, config)
        if to_keras:
            if (note := weights.left_aside_note(path, aside)) is not None:
                print(note)
            return 0, None
        return weights.optimizer_state(path, kind, variables)

    step, moments = use_checkpoint(args.source, load)
    if to_keras:
        weights.write_keras_weights(args.target, network)
    else:
        published_checkpoint.write(args.target, {name: variable.numpy() for name, variable in variables.items()}, step, moments)
        print(f"Adam's moments and step: {'none in SOURCE, written as not begun' if moments is None else step}")
    print(f"{args.source} ({config}) -> {', '.join(written)}")


if __name__ == "__main__":
    with reported():
        main()
