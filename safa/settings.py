"""All settings of networks and runs, each written once: default, flag, help, bounds and the paper's value (section 4)."""

import argparse
import dataclasses
import re

from safa.parts import AGGREGATIONS, BACKBONES, LOSSES, PRECISIONS, SAMPLERS
from safa.runtime.command_line import Checked, add_settings, at_least, setting

OUTPUT_STRIDE = 32  # input pixels behind one position of the last map: five 2x2 poolings
LARGEST_SIDE = 2**14  # of an image, far beyond what any device can train with
MOST_DEVICES = 64  # more than any machine has; TensorFlow would start thousands of threads for more
FULL_CIRCLE = 360  # degrees

_side = at_least(int, OUTPUT_STRIDE, LARGEST_SIDE)


def split_network_type(network_type):
    """The aggregation that a network type names, and its number: "SAFA_8" -> ("SAFA_M", 8), "VGG_gp" -> ("VGG_gp", None).

    Raises argparse.ArgumentTypeError if it names none.
    """
    match = re.fullmatch(r"(.+)_([1-9][0-9]{0,2})", network_type)
    if match and f"{match[1]}_M" in AGGREGATIONS:
        return f"{match[1]}_M", int(match[2])
    if network_type not in AGGREGATIONS or network_type.endswith("_M"):
        known = [name if not name.endswith("_M") else f"{name[:-1]}1, ... {name[:-1]}8, ..." for name in AGGREGATIONS]
        raise argparse.ArgumentTypeError(f"{network_type[:40]!r} is not one of {', '.join(known)}")
    return network_type, None


def network_type_of(text):
    """A network type from a flag; errors as of `split_network_type`."""
    return split_network_type(text) and text


def save_interval(text):
    """What --save_every means: ("minutes", 10.0) for "10min", ("steps", 500) for "500"; argparse expects the error."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?(|m|min|minutes?|steps?)", text)
    unit = "minutes" if match and match[2].startswith("m") else "steps"
    if not match or not float(match[1]) or unit == "steps" and not match[1].isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number of minutes like 10min nor of steps like 500")
    return unit, float(match[1]) if unit == "minutes" else int(match[1])


@dataclasses.dataclass(frozen=True)
class NetworkConfig(Checked):
    """What a network is (paper, section 3)."""

    network_type: str = setting(
        "SAFA_8",
        "aggregation. SAFA_M: M spatial-aware embeddings; VGG_gp: global max-pooling, the paper's baseline",
        network_type_of,
        metavar=f"{{{','.join(AGGREGATIONS)}}}",
        paper="SAFA_1, 2, 4, 8 and VGG_gp",
    )
    polar: int = setting(
        1, "what panoramas are matched with: 1 polar maps, 0 aerial tiles", int, choices=(0, 1), paper="1, and 0 as ablation"
    )
    height: int = setting(112, "input height of panoramas and polar maps", _side, metavar="PIXELS", paper="112")
    width: int = setting(616, "input width of panoramas and polar maps", _side, metavar="PIXELS", paper="616")
    aerial_input_size: int = setting(256, "input side of aerial tiles with --polar 0", _side, metavar="PIXELS", paper="256")
    width_multiplier: float = setting(
        1.0, "factor on the backbone's number of channels", at_least(float, 1 / 64, 4), metavar="FACTOR", paper="1"
    )
    backbone: str = setting("VGG16", "network from images to feature maps", choices=BACKBONES, paper="VGG16")
    shared: int = setting(0, "backbones: 1 the same for both views, 0 one for each", int, choices=(0, 1), paper="0")

    @property
    def aggregation(self):
        """The aggregation's line in AGGREGATIONS and its number, or None: ("SAFA_M", 8) for SAFA_8."""
        return split_network_type(self.network_type)

    @property
    def reference(self):
        """Kind of the references, as `datasets.dataset.Dataset.pairs` takes it."""
        return "polar" if self.polar else "aerial"

    @property
    def grd_shape(self):
        """(height, width) of the ground branch's input."""
        return self.height, self.width

    @property
    def sat_shape(self):
        """(height, width) of the satellite branch's input."""
        return self.grd_shape if self.polar else (self.aerial_input_size, self.aerial_input_size)

    @property
    def sizes(self):
        """Sizes and backbone as text, "" for the paper's: its weights fit and its recalls compare."""
        side, unused = self.aerial_input_size, {"aerial_input_size": self.aerial_input_size} if self.polar else {}
        parts = [f"{self.height}x{self.width}", f"aerial tiles {side}x{side}", f"width multiplier {self.width_multiplier:g}"]
        parts += [self.backbone] * (self.backbone != "VGG16") + ["one backbone for both"] * self.shared
        return "" if self == NetworkConfig(self.network_type, self.polar, **unused) else ", ".join(parts)

    def __str__(self):
        return f"{self.network_type}, polar {self.polar}{self.sizes and ', '}{self.sizes}"


@dataclasses.dataclass(frozen=True)
class TrainingConfig(Checked):
    """How a network is trained (paper, section 4). A stopped run continues with the same ones."""

    epochs: int = setting(100, "number of passes over the training pairs", at_least(int, 1), paper="100")
    batch_size: int = setting(32, "pairs per step, negatives of each other", at_least(int, 2), metavar="PAIRS", paper="32")
    learning_rate: float = setting(
        1e-5, "learning rate of Adam (betas 0.9 and 0.999, epsilon 1e-8)", at_least(float, 0), metavar="RATE", paper="1e-5"
    )
    keep_prob: float = setting(
        0.8,
        "share of activations that dropout keeps after convolutions of blocks 4 and 5; 1 learns faster from random weights",
        at_least(float, 0.01, 1),
        paper="0.8",
    )
    batch_hard_count: int = setting(
        0, "number of hardest negatives used of each row and column; 0: all", at_least(int, 0), metavar="K", paper="0"
    )
    seed: int = setting(0, "seed of random weights, dropout and the order of the pairs", at_least(int, 0, 2**31 - 1))
    init: str = setting(
        "default",
        "starting weights. default: the authors' Model/Initialize/initial_model.ckpt where it lies below --model_dir and fits, "
        "else imagenet. imagenet: VGG16's, downloaded once by Keras. random: He-normal, the same in both backbones. PATH: a "
        "file of VGG16's (Keras's .h5 or .keras, vgg16_weights.npz), or a checkpoint",
        metavar="{default,imagenet,random,PATH}",
        paper="imagenet",
    )
    continue_from: str | None = setting(
        None,
        "the authors' training checkpoint to continue from, with its weights, Adam's moments and step; instead of --init",
        metavar="CHECKPOINT",
    )
    precision: str = setting(
        "float32",
        "precision of the convolutions. tf32: NVIDIA GPUs since Ampere round their inputs, other devices compute in float32",
        choices=PRECISIONS,
        paper="float32",
    )
    schedule: str = setting(
        "constant",
        "schedule of the learning rate; cosine: falls to 0 at the last epoch",
        choices=("constant", "cosine"),
        paper="constant",
    )
    warmup_epochs: float = setting(
        0.0, "epochs during which the learning rate rises from 0 to its value", at_least(float, 0), metavar="EPOCHS", paper="0"
    )
    clip_norm: float | None = setting(
        None,
        "greatest global norm of the gradient; a greater one is clipped",
        at_least(float, 1e-12),
        metavar="NORM",
        paper="no clipping",
    )
    ema: float = setting(
        0.0,
        "decay of a moving average of the weights, 0.99 for instance, which is validated and tested. 0: no average",
        at_least(float, 0, 0.99999),
        metavar="DECAY",
        paper="0",
    )
    train_fov: int = setting(
        FULL_CIRCLE,
        "field of view of the training panoramas: their first columns stay, the others become the mean colour",
        at_least(int, 1, FULL_CIRCLE),
        metavar="DEGREES",
        paper="360",
    )
    random_heading: bool = setting(False, "turn each training panorama by a random angle, a new one every epoch")
    rotate_pairs: bool = setting(
        False, "turn both images of each training pair by a random angle, a new one every epoch; aerial tiles by quarter turns"
    )
    flip_pairs: bool = setting(False, "mirror both images of half of the training pairs, a new half every epoch")
    loss: str = setting("soft_margin_triplet", "function of a batch's descriptors", choices=LOSSES, paper="soft_margin_triplet")
    sampler: str = setting("shuffled", "order of an epoch's pairs", choices=SAMPLERS, paper="shuffled")


@dataclasses.dataclass(frozen=True)
class RunConfig(Checked):
    """How a run is carried out. A stopped run may continue with others."""

    devices: int | None = setting(
        None,
        "number of GPUs that share a batch (default: all); without a GPU the CPU counts as N devices, to try it",
        at_least(int, 1, MOST_DEVICES),
        metavar="N",
    )
    micro_batch: int | None = setting(
        None,
        "pairs computed at a time, for GPUs with little memory: the same gradients in a third more time; "
        "divides a device's share of the batch (default: all)",
        at_least(int, 1),
        metavar="PAIRS",
    )
    save_every: str = setting(
        "10min",
        "minutes (10min) or steps (500) between checkpoints; every epoch ends with one as well",
        lambda text: save_interval(text) and text,
        metavar="{Nmin,N}",
    )
    cache: str = setting(
        "none", "where decoded images stay for later epochs; memory: 18.4 GB for the paper's pairs", choices=("none", "memory")
    )
    figures_every: int = setting(
        0,
        "epochs between pictures of a few validation queries in TensorBoard, always the same ones. 0: none",
        at_least(int, 0),
        metavar="EPOCHS",
    )
    log_every: int = setting(
        100, "steps between two lines of the log, and between two points in TensorBoard", at_least(int, 1), metavar="STEPS"
    )
    deterministic: bool = setting(False, "make runs repeatable bit by bit on one machine, also after a stop; slower on GPUs")


@dataclasses.dataclass(frozen=True)
class Settings:
    """All settings of a training run."""

    network: NetworkConfig
    training: TrainingConfig
    run: RunConfig = RunConfig()


def add_network(parser):
    """Add the flags of `NetworkConfig`, which leave what is not given to the checkpoint's settings."""
    add_settings(parser.add_argument_group("network"), NetworkConfig, unset="the checkpoint's, or else the paper's")


def given_settings(args):
    """The network's settings that flags of `add_network` name; those left to the checkpoint are missing: dict."""
    given = {field.name: getattr(args, field.name) for field in dataclasses.fields(NetworkConfig)}
    return {name: value for name, value in given.items() if value is not None}
