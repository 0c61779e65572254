"""What is said to be one new function and a line is no more: a backbone, an aggregation, a loss."""

import json
import os
import types

import numpy as np
import pytest
from conftest import complains, rows_of, succeeds, tensors_of

from input_data import epoch_order
from safa.datasets.image_files import image_size
from safa.parts import SAMPLERS
from safa.runtime.errors import UserError
from safa.settings import TrainingConfig
from safa.training.epoch_order import order_of_epoch
from safa.training.run_folder import RunPaths

PARTS = "tests/programs/other_parts.py"
NETWORK = {"network_type": "mean", "backbone": "small", "width_multiplier": 0.1, "height": 32, "width": 128}
TRAINING = {"loss": "info_nce", "init": "random", "learning_rate": 1e-3, "batch_size": 8}


@pytest.fixture(scope="module")
def with_other_parts(towns, tmp_path_factory):
    """A folder with a network of another backbone, aggregation and loss, trained for two epochs. Not to be changed."""
    folder = tmp_path_factory.mktemp("parts")
    os.symlink(towns / "Data", folder / "Data")
    succeeds(PARTS, "train", **NETWORK, **TRAINING, epochs=2, cwd=folder)
    return folder


def test_other_parts_learn_and_are_tested_with_what_they_learned(with_other_parts, tmp_path):
    folder = with_other_parts
    one, two = rows_of(folder / "Result/CVUSA/mean_polar_1.csv")
    assert float(two["loss"]) < float(one["loss"])
    learned = tensors_of(folder / "Model/CVUSA/mean/polar_1")
    means = [value for key, value in learned.items() if "moving_mean" in key]
    assert len(means) == 2 and all(np.abs(mean).max() > 0.01 for mean in means)
    assert any("seed_generator" in key for key in learned)  # of Keras's dropout
    assert learned["network/loss/00_scale"] != 10 and "adam/loss/00_scale/velocity" in learned  # the loss's temperature
    assert "small" in succeeds(PARTS, "test", network_type="mean", checkpoint="last", result_dir=tmp_path, cwd=folder)
    assert json.loads((tmp_path / "CVUSA/mean_polar_1.json").read_text())["recall"]["1"] == float(two["recall@1"])


def test_other_parts_continue_with_the_same_bits(with_other_parts, here):
    for epochs in (1, 2):
        succeeds(PARTS, "train", **NETWORK, **TRAINING, epochs=epochs, cwd=here)
    expected, found = (tensors_of(folder / "Model/CVUSA/mean/polar_1") for folder in (with_other_parts, here))
    assert expected.keys() == found.keys() and all(np.array_equal(expected[key], found[key]) for key in expected)


def test_other_parts_are_spread_over_devices_and_micro_batches(with_other_parts, here):
    succeeds(PARTS, "train", **NETWORK, **TRAINING, devices=2, micro_batch=2, epochs=2, cwd=here)
    # Each part is normalised by its own statistics, as usual, and has its own dropout, so losses are not the same.
    expected, found = (tensors_of(folder / "Model/CVUSA/mean/polar_1") for folder in (with_other_parts, here))
    for key in expected:
        if "moving_mean" in key:
            np.testing.assert_allclose(found[key], expected[key], atol=0.3 * np.abs(expected[key]).max())


def test_imagenet_weights_and_hard_negatives_are_refused_where_they_do_not_fit(here):
    training = TRAINING | {"batch_hard_count": 2}
    assert "--loss soft_margin_triplet" in complains(PARTS, "train", **NETWORK, **training, cwd=here)
    assert "invalid choice: 'small'" in complains("train_cvusa.py", backbone="small", cwd=here)


def test_one_backbone_for_both_views_hard_batches_and_other_views_are_trained_resumed_and_tested(towns, tmp_path):
    os.symlink(towns / "Data", tmp_path / "Data")
    prepared = {"prepared_dir": "Prepared", "cwd": tmp_path}
    succeeds(PARTS, "prepare_views", dataset="views", workers=1, **prepared)
    assert image_size(str(next((tmp_path / "Prepared/views/CVUSA/polarmap/19").glob("*.png")))) == (61, 336)
    settings = NETWORK | TRAINING | {"backbone": "augmented", "shared": 1, "sampler": "near_then_alike"}
    for flag in ({"random_heading": True}, {"train_fov": 90}, {"rotate_pairs": True}):
        assert "Views has none" in complains(PARTS, "train_views", **settings, **flag, **prepared)
    for epochs in (1, 2):
        succeeds(PARTS, "train_views", **settings, epochs=epochs, **prepared)
    succeeds(PARTS, "train_views", **settings, epochs=2, model_dir="at_once", devices=2, **prepared)
    expected, found = (tensors_of(tmp_path / folder / "Views/mean/polar_1") for folder in ("at_once", "Model"))
    assert not any("grd/backbone" in key for key in found) and expected.keys() == found.keys()
    order = np.load(tmp_path / "Model/Views/mean/polar_1/order.npz")
    assert order["epoch"] == 2 and sorted(order["order"]) == list(range(24))
    flags = {"network_type": "mean", "checkpoint": "last", **prepared}
    assert "one backbone for both" in succeeds(PARTS, "test_views", **flags)
    recall = json.loads((tmp_path / "Result/Views/mean_polar_1.json").read_text())["recall"]["1"]
    assert recall == float(rows_of(tmp_path / "Result/Views/mean_polar_1.csv")[-1]["recall@1"])
    assert "--fov: turns or cuts" in complains(PARTS, "test_views", **flags, fov=90)


def test_an_epoch_that_was_stopped_continues_in_its_own_order(tmp_path, monkeypatch):
    described, rows = [], np.random.default_rng(0).standard_normal((12, 5)).astype(np.float32)
    monkeypatch.setitem(SAMPLERS, "hard", lambda pairs, epoch, seed, size, sat, grd: np.argsort(sat[:, 0] + epoch))
    run = types.SimpleNamespace(
        train_images=types.SimpleNamespace(pairs=list(range(12))),
        settings=types.SimpleNamespace(training=TrainingConfig(sampler="shuffled")),
        paths=RunPaths(str(tmp_path), "", ""),
        distribution=types.SimpleNamespace(is_chief=True, share_chiefs_values=lambda variables: None),
        extractor=types.SimpleNamespace(pairs=lambda *_: described.append(1) or (rows, rows)),
        describing_batch_size=4,
    )
    np.testing.assert_array_equal(order_of_epoch(run, 3, 0), epoch_order(12, 3, 0))
    run.settings.training = types.SimpleNamespace(sampler="hard", seed=0, batch_size=4)
    order = order_of_epoch(run, 3, 0)
    rows[:] = -rows
    np.testing.assert_array_equal(order_of_epoch(run, 3, 2), order)
    assert len(described) == 1 and not np.array_equal(order_of_epoch(run, 4, 0), order)
    with pytest.raises(UserError, match="order.npz: the order of epoch 3 is not in it"):
        order_of_epoch(run, 3, 2)
    (tmp_path / "order.npz").write_bytes(b"PK")
    with pytest.raises(UserError, match="order.npz"):
        order_of_epoch(run, 4, 2)
