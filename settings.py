"""The settings of networks and runs: the paper's numbers as defaults, their flags, and their checks."""

from runtime.command_line import add_folders, at_least
from runtime.errors import UserError, first_line
from runtime.files import ordinary

import argparse
import dataclasses
import hashlib
import json
import os
import re

RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")
NETWORK_TYPE = re.compile(r"SAFA_([1-9]\d{0,2})|VGG_gp")
MOST_DEVICES = 64  # more than any machine has; TensorFlow would start thousands of threads for more
LAYERS_DOWN = 32  # pixels of the input behind one position of the last map: five 2x2 poolings
LARGEST_SIDE = 2**14  # of an image, far beyond what any device can train with
WIDTHS = 1 / 64, 4  # least and greatest width_multiplier
SETTINGS = "config.json"  # beside a run's checkpoints
BEST = "best"  # folder of the best checkpoint inside a run's


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """What a network is; the defaults are the paper's (sections 3 and 4).

    Attributes:
        network_type: "SAFA_M" with M spatial-aware position embeddings, or "VGG_gp", the global-pooling baseline.
        polar: 1 for polar maps as references, 0 for aerial tiles.
        height, width: of panoramas and polar maps at the network's input, in pixels.
        aerial_size: side of aerial tiles at the network's input, in pixels (polar 0 only).
        width_multiplier: factor on the number of channels of every convolution of VGG16.
    """

    network_type: str = "SAFA_8"
    polar: int = 1
    height: int = 112
    width: int = 616
    aerial_size: int = 256
    width_multiplier: float = 1.0

    @property
    def embeddings(self):
        """M of SAFA_M; 0 for VGG_gp."""
        return int(self.network_type.removeprefix("SAFA_")) if self.network_type != "VGG_gp" else 0

    @property
    def grd_shape(self):
        """(height, width) of the ground branch's input."""
        return self.height, self.width

    @property
    def sat_shape(self):
        """(height, width) of the satellite branch's input."""
        return self.grd_shape if self.polar else (self.aerial_size, self.aerial_size)

    @property
    def is_papers(self):
        """Whether the sizes are the paper's, so that its weights fit and its recalls compare."""
        return self == NetworkConfig(self.network_type, self.polar)

    def __str__(self):
        sizes = (
            ""
            if self.is_papers
            else (
                f", satellite {self.sat_shape[0]}x{self.sat_shape[1]}, ground {self.height}"
                f"x{self.width}, width multiplier {self.width_multiplier:g}"
            )
        )
        return f"{self.network_type}, polar {self.polar}{sizes}"


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How a network is trained; the defaults are the paper's (section 4)."""

    epochs: int = 100
    batch_size: int = 32
    learning_rate: float = 1e-5
    keep_prob: float = 0.8
    batch_hard_count: int = 0
    seed: int = 0
    init: str = "imagenet"
    continue_from: str | None = None
    precision: str = "float32"
    schedule: str = "constant"
    warmup_epochs: float = 0.0
    clip_norm: float | None = None


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """How a run is carried out; a run that was stopped may go on with others.

    Attributes:
        devices: number of GPUs; None: all.
        micro_batch: pairs that go through the network at a time; None: a device's whole share of the batch.
        save_every: ("minutes" or "steps", number) between checkpoints within an epoch.
        cache: "none", "memory" or "disk": where decoded images are kept for later epochs.
        log_every: steps between lines of the log.
        deterministic: every operation is to give the same bits every time.
    """

    devices: int | None = None
    micro_batch: int | None = None
    save_every: tuple = ("minutes", 10.0)
    cache: str = "none"
    log_every: int = 100
    deterministic: bool = False


NETWORK = NetworkConfig()
TRAINING = TrainingConfig()
RUN = RunConfig()


def _network_type(text):
    if not NETWORK_TYPE.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is none of SAFA_1, SAFA_2, SAFA_4, SAFA_8, ... and VGG_gp")
    return text


def _run_name(text):
    if not RUN_NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"{text[:40]!r} is no name of letters, digits, '.', '_' and '-' (up to 60, and a letter or digit first)"
        )
    return text


def _save_every(text):
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?(|m|min|minutes?|steps?)", text)
    unit = "minutes" if match and match[2].startswith("m") else "steps"
    if not match or not float(match[1]) or unit == "steps" and not match[1].isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number of minutes, such as 10min, nor of steps, such as 500")
    return unit, float(match[1]) if unit == "minutes" else int(match[1])


def add_network(parser, from_checkpoint=False):
    """Add the flags of `NetworkConfig`; `from_checkpoint` leaves the sizes to what the checkpoint's settings say."""

    def size(value):
        return None if from_checkpoint else value

    default = " (default: the checkpoint's)" if from_checkpoint else ""
    side = at_least(int, LAYERS_DOWN, LARGEST_SIDE)
    group = parser.add_argument_group("network")
    group.add_argument(
        "--network_type",
        type=_network_type,
        default=NETWORK.network_type,
        metavar="{SAFA_M,VGG_gp}",
        help="SAFA_M: M spatial-aware embeddings (paper: 1, 2, 4, 8); VGG_gp: global pooling",
    )
    group.add_argument(
        "--polar",
        type=int,
        choices=(0, 1),
        default=NETWORK.polar,
        help="1: polar maps as references; 0: aerial tiles (ablation)",
    )
    group.add_argument(
        "--height",
        type=side,
        default=size(NETWORK.height),
        metavar="PIXELS",
        help=f"input height of panoramas and polar maps (paper: 112){default}",
    )
    group.add_argument(
        "--width",
        type=side,
        default=size(NETWORK.width),
        metavar="PIXELS",
        help=f"input width of panoramas and polar maps (paper: 616){default}",
    )
    group.add_argument(
        "--aerial_size",
        type=side,
        default=size(NETWORK.aerial_size),
        metavar="PIXELS",
        help=f"input side of aerial tiles with --polar 0 (paper: 256){default}",
    )
    group.add_argument(
        "--width_multiplier",
        type=at_least(float, *WIDTHS),
        default=size(NETWORK.width_multiplier),
        metavar="FACTOR",
        help=f"factor on VGG16's channels (paper: 1){default}",
    )


def add_training(parser):
    """Add the flags of `TrainingConfig`."""
    group = parser.add_argument_group("training")
    group.add_argument("--epochs", type=at_least(int, 1), default=TRAINING.epochs, help="(paper: 100)")
    group.add_argument(
        "--batch_size",
        type=at_least(int, 2),
        default=TRAINING.batch_size,
        metavar="PAIRS",
        help="pairs a step; each is the others' negative (paper: 32)",
    )
    group.add_argument(
        "--learning_rate",
        type=at_least(float, 0),
        default=TRAINING.learning_rate,
        metavar="RATE",
        help="of Adam with betas 0.9 and 0.999, epsilon 1e-8 (paper: 1e-5)",
    )
    group.add_argument(
        "--keep_prob",
        type=at_least(float, 0.01, 1),
        default=TRAINING.keep_prob,
        help="share of activations that dropout keeps, after each convolution of blocks 4 and 5; from "
        "random weights 1 learns faster (paper: 0.8)",
    )
    group.add_argument(
        "--batch_hard_count",
        type=at_least(int, 0),
        default=TRAINING.batch_hard_count,
        metavar="K",
        help="use only the K hardest negatives of each row and column; 0: all (paper: 0)",
    )
    group.add_argument(
        "--seed",
        type=at_least(int, 0, 2**31 - 1),
        default=TRAINING.seed,
        help="of random weights, dropout and the order of the pairs",
    )
    group.add_argument(
        "--init",
        default=TRAINING.init,
        metavar="{imagenet,random,PATH}",
        help="starting weights. imagenet: VGG16's, downloaded once by Keras (paper). random: He-normal. "
        "PATH: that file of Keras's, vgg16.npy, the authors' initial_model.ckpt, or a checkpoint",
    )
    group.add_argument(
        "--continue_from",
        metavar="CHECKPOINT",
        help="go on with the authors' training: weights, Adam's moments and step from a published "
        "training checkpoint, instead of --init",
    )

    add_precision(group)
    group.add_argument(
        "--schedule",
        choices=("constant", "cosine"),
        default=TRAINING.schedule,
        help="of the learning rate; cosine falls to 0 at the last epoch (paper: constant)",
    )
    group.add_argument(
        "--warmup_epochs",
        type=at_least(float, 0),
        default=TRAINING.warmup_epochs,
        metavar="EPOCHS",
        help="in which the learning rate rises from 0 (paper: 0)",
    )
    group.add_argument(
        "--clip_norm",
        type=at_least(float, 1e-12),
        default=TRAINING.clip_norm,
        metavar="NORM",
        help="scale gradients with a greater norm, over all weights, to this one (paper: not)",
    )


def add_run(parser):
    """Add the flags of `RunConfig`."""
    group = parser.add_argument_group("run", "may differ when a run that was stopped goes on")
    add_devices(group)
    group.add_argument(
        "--micro_batch",
        type=at_least(int, 1),
        metavar="PAIRS",
        help="pairs that go through the network at a time, for GPUs with little memory: the same "
        "gradients for a third more time; divides a device's share of the batch (default: all)",
    )
    group.add_argument(
        "--save_every",
        type=_save_every,
        default=RUN.save_every,
        metavar="{Nmin,N}",
        help="minutes (10min) or steps (500) between checkpoints, besides that of every epoch (default: 10min)",
    )
    group.add_argument(
        "--cache",
        choices=("none", "memory", "disk"),
        default=RUN.cache,
        help="keep decoded images, so that later epochs decode none: at the paper's sizes 14.7 GB for "
        "the 35,532 training pairs; disk: beside the prepared files, made anew when these change",
    )
    group.add_argument(
        "--log_every",
        type=at_least(int, 1),
        default=RUN.log_every,
        metavar="STEPS",
        help="steps between lines of the log and points in TensorBoard",
    )
    group.add_argument(
        "--deterministic",
        action="store_true",
        help="the same bits in every run on the same machine, also after a stop; slower on GPUs",
    )


def add_precision(parser):
    """Add --precision."""
    parser.add_argument(
        "--precision",
        choices=("float32", "tf32", "bfloat16"),
        default=TRAINING.precision,
        help="of the convolutions; weights, descriptors and loss stay float32. tf32: NVIDIA GPUs since "
        "Ampere round the convolutions' inputs to TensorFloat-32, others compute in float32 "
        "(paper: float32)",
    )


def add_devices(parser):
    """Add --devices."""
    parser.add_argument(
        "--devices",
        type=at_least(int, 1, MOST_DEVICES),
        metavar="N",
        help="GPUs of this machine that share a batch (default: all); without a GPU the CPU counts as N devices, to try it",
    )


def add_run_folders(parser, has_act_data):
    """Add the flags of the folders and of the data; `has_act_data`: the dataset is described by a MATLAB file."""
    add_folders(parser, "data", "model", "result")
    if has_act_data:
        parser.add_argument("--act_data", metavar="FILE.mat", help="ACT_data.mat (default: the one in the dataset's folder)")
    parser.add_argument("--skip_missing", action="store_true", help="leave out pairs whose files do not exist")
    parser.add_argument(
        "--run",
        type=_run_name,
        metavar="NAME",
        help="name of the run, for seeds and variants beside each other: the run's folder and its result "
        "files end in _NAME (default: no name)",
    )


def parsed(kind, args):
    """The `kind` (a dataclass of this module) that the parsed flags describe."""
    return kind(**{field.name: getattr(args, field.name) for field in dataclasses.fields(kind)})


def run_folder(model_dir, dataset, network, run=None):
    """Folder of a run's checkpoints; `run` is the run's name, or None."""
    return os.path.join(model_dir, dataset, network.network_type, f"polar_{network.polar}{_suffix(run)}")


def result_file(result_dir, dataset, network, extension, run=None):
    """Path of a run's CSV or JSON file; `run` is the run's name, or None."""
    return os.path.join(result_dir, dataset, f"{network.network_type}_polar_{network.polar}{_suffix(run)}.{extension}")


def _suffix(run):
    return f"_{run}" if run else ""


def read_settings(folder):
    """The settings noted in a run's folder, or None where there is no note.

    Returns:
        {"network": NetworkConfig, "training": TrainingConfig, "data": {"train_pairs", "train_ids"}, "sessions": [...]}.

    Raises:
        UserError: the note cannot be understood.
    """
    path = os.path.join(folder, SETTINGS)
    try:
        with open(path, encoding="utf-8", opener=ordinary) as file:
            settings = json.load(file)
        network, training = _typed(NetworkConfig, settings["network"]), _typed(TrainingConfig, settings["training"])
        sides = network.height, network.width, network.aerial_size
        if (
            not NETWORK_TYPE.fullmatch(network.network_type)
            or network.polar not in (0, 1)
            or not (LAYERS_DOWN <= min(sides) <= max(sides) <= LARGEST_SIDE)
            or not (WIDTHS[0] <= network.width_multiplier <= WIDTHS[1])
        ):
            raise ValueError(f"it describes no network: {network}")
        if not isinstance(settings["data"], dict) or not isinstance(settings["sessions"], list):
            raise ValueError("data and sessions are expected")
        return {name: settings[name] for name in ("data", "sessions")} | {"network": network, "training": training}
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"{path}: not a run's settings ({first_line(error)}); restore the file, or use another --model_dir"
        ) from None


def _typed(kind, values):
    """A `kind` (a dataclass of this module) of these values, whose types are checked."""
    config = kind(**values)
    for field in dataclasses.fields(kind):
        value = getattr(config, field.name)
        allowed = (int, field.type) if isinstance(0.0, field.type) else field.type  # JSON may write 1.0 as 1
        if isinstance(value, bool) or not isinstance(value, allowed):
            raise TypeError(f"{field.name} is {value!r}")
    return config


def agree_with_earlier_run(folder, network, training):
    """Refuse to go on with a run whose settings were others; only the number of epochs may grow.

    Raises:
        UserError: the first setting that differs, with both values.
    """
    if not _has_checkpoints(folder):  # a start that saved nothing holds nobody to its settings
        return
    earlier = read_settings(folder)
    if earlier is None:
        raise UserError(
            f"{folder}: holds checkpoints without {SETTINGS}, so that nobody knows which run they are; "
            "restore the file, or use another --model_dir"
        )
    for kind, config in (("network", network), ("training", training)):
        for name, value in dataclasses.asdict(config).items():
            before = getattr(earlier[kind], name)
            if before != value and (name != "epochs" or training.schedule != "constant"):
                raise UserError(
                    f"{folder}: holds a run with --{name} {before}, not {value}; use --{name} {before} to "
                    "go on with it, or another --run or --model_dir for a new run"
                )


def _has_checkpoints(folder):
    return os.path.isdir(folder) and any(name.endswith(".index") for name in os.listdir(folder))


def data_identity(train_pairs):
    """What a run's order of pairs depends on: {"train_pairs": number, "train_ids": digest of their ids in order}."""
    digest = hashlib.sha256("\n".join(train_pairs.ids).encode()).hexdigest()[:16]
    return {"train_pairs": len(train_pairs), "train_ids": digest}


def agree_on_data(folder, data):
    """Refuse to go on with a run that was trained on other pairs: its position in an epoch would mean others.

    Args:
        data: of `data_identity`.

    Raises:
        UserError: with both values.
    """
    earlier = read_settings(folder) if _has_checkpoints(folder) else None
    for name, value in data.items():
        if earlier is not None and earlier["data"].get(name) != value:
            raise UserError(
                f"{folder}: holds a run with {name} {earlier['data'].get(name)}, and now {value}; restore the "
                "data (or --skip_missing) as it was, or use another --model_dir"
            )


def checkpoint_network(args, path):
    """The network of a checkpoint: as noted beside it, or, where there is no note, as the flags or the paper say.

    Args:
        args: parsed flags of `add_network`.
        path: of the checkpoint's files.

    Raises:
        UserError: a flag contradicts the note.
    """
    folder = os.path.dirname(os.path.abspath(path))
    settings = read_settings(folder) or read_settings(os.path.dirname(folder))
    asked = {name: getattr(args, name) for name in dataclasses.asdict(NETWORK) if getattr(args, name) is not None}
    if settings is None:
        return NetworkConfig(**asked)
    for name, value in asked.items():
        noted = getattr(settings["network"], name)
        if noted != value:
            raise UserError(f"{path}: a checkpoint of {settings['network']}; use --{name} {noted} instead of {value}")
    return settings["network"]


def settings_text(network, training, data, sessions):
    """The text of a run's note.

    Args:
        network, training: NetworkConfig and TrainingConfig.
        data: of `data_identity`.
        sessions: list of dicts, one for each time that the run was started: command, options, versions.
    """
    return json.dumps(
        {"network": dataclasses.asdict(network), "training": dataclasses.asdict(training), "data": data, "sessions": sessions},
        indent=2,
    )
