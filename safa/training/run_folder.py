"""Where a run's files lie, and the manifest beside its checkpoints that says which network and which run they are."""

import dataclasses
import hashlib
import os
import re
import typing

import msgspec
import numpy as np

from safa.datasets.dataset import POLAR
from safa.datasets.preparation import polar_maps_are_stretched
from safa.runtime.errors import UserError
from safa.runtime.files import read_json
from safa.settings import NetworkConfig, TrainingConfig

MANIFEST = "config.json"
BEST = "best"  # folder of the best checkpoint inside the run's
EPOCHS = "epochs.csv"  # the run's own copy of its CSV file


@dataclasses.dataclass(frozen=True)
class RunPaths:
    """Files of a run."""

    folder: str  # of its checkpoints
    csv: str  # losses and recalls of its epochs
    json: str  # its test
    authors_model: str | None = None  # where the authors' initial model may be

    best = property(lambda self: os.path.join(self.folder, BEST))  # folder of the best checkpoint
    # The last weights; they are there when all epochs are finished, and removed when more are asked for.
    final = property(lambda self: os.path.join(self.folder, "final.weights.h5"))
    own_csv = property(lambda self: os.path.join(self.folder, EPOCHS))  # the folder's own copy of `csv`


def run_paths(model_dir, result_dir, dataset_name, network, run=None, seed=0):
    """The RunPaths of a network's run; `run` is its name, or None. Seeds but 0 have folders of their own."""
    suffix = f"_{run}" * bool(run) + f"_seed_{seed}" * bool(seed)
    result = os.path.join(result_dir, dataset_name, f"{network.network_type}_polar_{network.polar}{suffix}")
    folder = os.path.join(model_dir, dataset_name, network.network_type, f"polar_{network.polar}{suffix}")
    return RunPaths(folder, f"{result}.csv", f"{result}.json", os.path.join(model_dir, "Initialize", "initial_model.ckpt"))


def run_name(path, manifest):
    """The name of the run whose folder, by `run_paths`, a checkpoint with this RunManifest lies in; None without a name."""
    seed = manifest.training.seed
    match = re.fullmatch(rf"polar_[01]_([\w.-]+?)(?:{f'_seed_{seed}' * bool(seed)})", os.path.basename(folder_of(path)))
    return match and match[1]


@dataclasses.dataclass(frozen=True)
class RunManifest:
    """What a run's folder holds."""

    network: NetworkConfig
    training: TrainingConfig
    data: dict  # of `data_identity`, and "image_bytes": what all of its images had when it was started last
    sessions: list[dict]  # one for each time that the run was started: command, options, versions
    dataset: typing.Annotated[str, msgspec.Meta(pattern=r"\A[\w .+-]+\Z")]  # that it is trained on; a part of file names
    version: str  # of this project, when the run was started last


def read_manifest(folder):
    """The RunManifest in a run's folder, or None if it is missing. Raises UserError if it cannot be understood."""
    path = os.path.join(folder, MANIFEST)
    return read_json(path, RunManifest, "restore the file, or use another --model_dir") if os.path.exists(path) else None


def has_checkpoints(folder):
    """Whether a run has saved something in a folder, which need not exist, that it goes on from."""
    return os.path.isdir(folder) and any(name.endswith(".index") for name in os.listdir(folder))


def agree_with_earlier_run(folder, network, training, data=None):
    """Refuse to continue a run with other settings, or on other pairs; only the number of epochs may grow.

    Args:
        folder: the run's.
        network, training: NetworkConfig and TrainingConfig.
        data: of `data_identity`: a cursor in an epoch would mean other pairs, the best recall others. None: not known yet.

    Raises:
        UserError: the first setting that differs, with both values.
    """
    if not has_checkpoints(folder):
        return  # without a checkpoint the settings may still change
    earlier = read_manifest(folder)
    if earlier is None:
        raise UserError(f"{folder}: holds checkpoints without {MANIFEST}; restore the file, or use another --model_dir")
    for before, now in (earlier.network, network), (earlier.training, training):
        for name, value in dataclasses.asdict(now).items():
            noted = getattr(before, name)
            if noted != value and (name != "epochs" or training.schedule != "constant"):
                remedy = "use the former to continue it, or another --run or --model_dir for a new run"
                raise UserError(f"{folder}: holds a run with --{name} {noted}, not {value}; {remedy}")
    for name, value in (data or {}).items():
        if (noted := earlier.data.get(name)) != value:
            remedy = "restore the data (or --skip_missing) as it was, or use another --model_dir"
            raise UserError(f"{folder}: holds a run with {name} {noted}, and now {value}; {remedy}")


def data_identity(train_pairs, val_pairs):
    """What a run's batches and its best epoch depend on: {"train_pairs": number, "train_ids" and "train_rows": digests of ids,
    files' names, shared and acceptable tiles, and coordinates that make negatives, "val_pairs", ...}.
    """
    identity = {}
    for pairs in train_pairs, val_pairs:
        names = [os.path.basename(path).lower() for path in (*pairs.sat_paths, *pairs.grd_paths)]
        ids, rows = (hashlib.sha256("\n".join(each).encode()) for each in (pairs.ids, names))
        rows.update(np.asarray(pairs.truth, "<i8").tobytes())
        if pairs.dataset.negative_metres is not None:
            rows.update(np.asarray(pairs.utm, "<f8").tobytes())
        for near in pairs.acceptable or ():
            rows.update(np.asarray([len(near), *near], "<i8").tobytes())
        of_split = {"pairs": len(pairs), "ids": ids.hexdigest()[:16], "rows": rows.hexdigest()[:16]}
        identity |= {f"{pairs.split}_{name}": value for name, value in of_split.items()}
    if train_pairs.reference == POLAR:
        identity["stretched_polar_maps"] = polar_maps_are_stretched(train_pairs.dataset.polar_dir)
    return identity


def folder_of(checkpoint):
    """The folder of the run that a checkpoint, by its path, is of: with a manifest, beside its files or above; or None."""
    own = os.path.dirname(os.path.abspath(checkpoint))
    return next((each for each in (own, os.path.dirname(own)) if os.path.exists(os.path.join(each, MANIFEST))), None)
