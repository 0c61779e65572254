"""A trained network from wherever its weights are."""

import contextlib
import dataclasses
import os
import re
import typing

from safa.datasets.registry import dataset_in
from safa.parts import PRECISIONS
from safa.report.result_file import AUTHORS, LAST
from safa.runtime.backend import importing_tensorflow
from safa.runtime.errors import UserError, first_few
from safa.settings import NetworkConfig
from safa.training.checkpoint_files import checkpoint_digest, use_checkpoint
from safa.training.run_folder import BEST, RunManifest, folder_of, read_manifest, run_name, run_paths

if typing.TYPE_CHECKING:
    from safa.runtime.distribution import Distribution
    from spatial_net import Network


@dataclasses.dataclass(frozen=True)
class LoadedNetwork:
    """A network with its weights."""

    model: "Network"  # whose branches `sat` and `grd` turn (B, H, W, 3) BGR images, 0..255, into (B, D) float32 of length 1
    config: NetworkConfig
    manifest: RunManifest | None  # of the training run; None where the weights are the authors' or Keras's
    path: str  # of the weights
    digest: str  # of the weights, 16 hexadecimal digits, whatever file they are in
    checkpoint_digest: str  # of this file, `checkpoint_files.checkpoint_digest`
    note: str | None  # a line on what the file holds besides


def load_network(
    source: str | os.PathLike,
    network: NetworkConfig | dict | None = None,
    precision: str = "float32",
    distribution: "Distribution | None" = None,
) -> LoadedNetwork:
    """Load a trained network, ours, the authors' or Keras's.

    Args:
        source: checkpoint, its folder, or a file of Keras weights.
        network: settings.NetworkConfig, or a dict of some of its settings; the others are the checkpoint's, or else the
            paper's.
        precision: "float32", "tf32" or "bfloat16"; TensorFlow's and Keras's own settings change with it (`backend.compute_in`).
        distribution: where it computes (default: TensorFlow's own device).

    Raises:
        UserError: no such precision; no weights, or damaged or another network's ones; `network` contradicts their manifest.
    """
    if precision not in PRECISIONS:
        raise UserError(f"precision {precision!r}: not one of {', '.join(PRECISIONS)}")
    config, manifest = found_network(source := os.fspath(source), network)  # a mistake is found before TensorFlow is imported
    with importing_tensorflow():
        from safa.parts import build_network
        from safa.runtime.backend import compute_in
        from safa.training.variables import network_variables, weights_digest
        from safa.training.weights import load_weights

    if distribution is None:
        compute_in(precision)
    with contextlib.nullcontext() if distribution is None else distribution.strategy.scope():
        model = build_network(config, precision=precision)

    def load(path, kind):
        return path, checkpoint_digest(path), load_weights(model, path, kind, config)

    path, of_file, note = use_checkpoint(source, load)
    if distribution is not None:
        distribution.share_chiefs_values(list(network_variables(model).values()))
    return LoadedNetwork(model, config, manifest, path, weights_digest(model), of_file, note)


def found_network(source, network=None):
    """The NetworkConfig of weights, and their RunManifest or None; arguments and errors as of `load_network`."""
    path = use_checkpoint(source, lambda path, _: path)
    given = dataclasses.asdict(network) if isinstance(network, NetworkConfig) else network or {}
    if (folder := folder_of(path)) is None:
        return NetworkConfig(**given), None
    manifest = read_manifest(folder)
    for name, value in given.items():
        if (trained := getattr(manifest.network, name)) != value:
            raise UserError(f"{path}: a checkpoint of {manifest.network}; use --{name} {trained} instead of {value}")
    return manifest.network, manifest


def tested_checkpoint(config, folders, dataset_name, given):
    """Path of the checkpoint to test: the one that is named, the best or last of our training run, or the authors'.

    `dataset_name`: of the dataset that networks are trained on; `given`: the network's settings that flags name.
    """
    if config.checkpoint not in (None, BEST, LAST):
        if config.seed:
            raise UserError("--seed: weights that --checkpoint names by their path need none; leave it out")
        return config.checkpoint
    asked, authors = NetworkConfig(**given), authors_checkpoint(folders, dataset_name)
    paths = run_paths(folders.model_dir, folders.result_dir, dataset_name, asked, folders.run, config.seed)
    ours, beside = paths.folder if config.checkpoint == LAST else paths.best, os.path.dirname(paths.folder)
    if os.path.isdir(ours):
        return ours
    if (config.checkpoint, folders.run, config.seed) == (None, None, 0):
        if os.path.isdir(os.path.dirname(authors)):
            return authors
        ours += f", and no {authors} of the authors'"
    runs = f" (there are {first_few(sorted(os.listdir(beside)))})" if os.path.isdir(beside) else ""
    raise UserError(
        f"no training run of {asked} in {ours}{runs}; train it (train_{dataset_name.lower()}.py), or name weights with "
        f"--checkpoint (./{LAST}: a file of that name)"
    )


def authors_checkpoint(folders, dataset_name):
    """Where users unpack the authors' weights of a dataset."""
    return os.path.join(folders.model_dir, dataset_name, "Trained", "model.ckpt")


def tested_weights(source, path, manifest, folders):
    """Whose weights the checkpoint at a path holds, as results say it: {"trained_on", "run", "seed", "weights"}.

    "weights" is None for the best of a run of ours, and LAST where `source` is its folder; others have results of their own, by
    their file's name in that folder, and its content where no run says more.
    """
    folder = folder_of(path) or os.path.dirname(os.path.abspath(path))
    name = re.sub(r"[^\w.+-]", "_", os.path.relpath(path, folder))[:60]  # as `result_file.Name`
    if manifest is not None:
        is_best = os.path.basename(os.path.dirname(os.path.abspath(path))) == BEST
        weights, run = None if is_best else LAST if os.path.abspath(source) == folder else name, folders.run
        run = run or run_name(path, manifest)
        return {"trained_on": manifest.dataset, "run": run, "seed": manifest.training.seed, "weights": weights}
    trained_on, weights = dataset_in(path), AUTHORS
    if trained_on is None or os.path.abspath(path) != os.path.abspath(authors_checkpoint(folders, trained_on)):
        weights = f"{name}_{checkpoint_digest(path)[:8]}"
    return {"trained_on": trained_on, "run": folders.run, "seed": 0, "weights": weights}
