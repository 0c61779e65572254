"""Convert weights between the authors' TensorFlow 1 checkpoints and this project's, both ways.

TARGET FILE.weights.h5 writes Keras weights; any other TARGET writes a checkpoint with the authors' names and shapes
(TARGET.index, TARGET.data-00000-of-00001), Adam's moments, powers and step counter included, which the authors' code
restores.
SOURCE is either kind, or a checkpoint of a training run, recognised by its content.
"""

import os

from safa import load_network
from safa.runtime.command_line import Parser
from safa.runtime.errors import UserError, first_few, reported, shortened
from safa.runtime.outputs import ANYTHING, Output, check_outputs
from safa.settings import add_network, given_settings
from safa.training.checkpoint_files import DATA, INDEX, KERAS, find_checkpoint

KERAS_ENDING = ".weights.h5"


def flags():
    """The script's flags."""
    parser = Parser(__doc__)
    parser.add_argument("source", metavar="SOURCE", help="checkpoint or weights file to read")
    parser.add_argument("target", metavar="TARGET", help="file or checkpoint to write")
    parser.add_argument("--overwrite", action="store_true", help="replace TARGET if it exists")
    add_network(parser)
    return parser


def main(argv=None):
    args = flags().parse_args(argv)
    to_keras = args.target.endswith(KERAS_ENDING)
    name = os.path.basename(args.target)
    if not name or not to_keras and name.endswith((".h5", ".keras", INDEX, DATA)):
        raise UserError(f"TARGET {args.target!r}: name a file *{KERAS_ENDING}, or a checkpoint: model.ckpt, for instance")
    written = [args.target] if to_keras else [args.target + INDEX, args.target + DATA]
    if existing := [path for path in written if os.path.isfile(path) and not args.overwrite]:
        raise UserError(f"{existing[0]}: exists; choose another TARGET, or replace it with --overwrite")
    path, kind = find_checkpoint(args.source)
    check_outputs([Output("TARGET", each, ANYTHING) for each in written], [path, path + INDEX, path + DATA])
    loaded = load_network(args.source, given_settings(args))
    if to_keras:
        from safa.training.weights import write_keras_weights

        if loaded.note is not None:
            print(loaded.note)
        write_keras_weights(args.target, loaded.model)
    else:
        from safa.training.published_checkpoint import write
        from safa.training.weights import optimizer_state

        step, moments = (0, None) if kind == KERAS else optimizer_state(loaded.path, loaded.model)
        write(args.target, loaded.model, step, moments)
        print(f"Adam's moments and step: {'none in SOURCE, written as not begun' if moments is None else step}")
    print(f"{shortened(args.source)} ({loaded.config}) -> {first_few(written)}")


if __name__ == "__main__":
    with reported():
        main()
