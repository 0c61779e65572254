"""What is said to be one new function and a line is no more: a backbone, an aggregation, a loss."""

import json
import os

import numpy as np
import pytest
from conftest import complains, rows_of, succeeds, tensors_of

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
    flags = {"network_type": "mean", "checkpoint": "last", "result_dir": tmp_path}
    assert "small" in succeeds(PARTS, "test", **flags, cwd=folder)
    assert json.loads((tmp_path / "CVUSA/mean_polar_1.json").read_text())["recall"]["1"] == float(two["recall@1"])


def test_other_parts_continue_with_the_same_bits(with_other_parts, tmp_path):
    os.symlink(with_other_parts / "Data", tmp_path / "Data")
    for epochs in (1, 2):
        succeeds(PARTS, "train", **NETWORK, **TRAINING, epochs=epochs, cwd=tmp_path)
    expected, found = (tensors_of(folder / "Model/CVUSA/mean/polar_1") for folder in (with_other_parts, tmp_path))
    assert expected.keys() == found.keys() and all(np.array_equal(expected[key], found[key]) for key in expected)


def test_other_parts_are_spread_over_devices_and_micro_batches(with_other_parts, tmp_path):
    os.symlink(with_other_parts / "Data", tmp_path / "Data")
    succeeds(PARTS, "train", **NETWORK, **TRAINING, devices=2, micro_batch=2, epochs=2, cwd=tmp_path)
    # Each part is normalised by its own statistics, as usual, and has its own dropout, so losses are not the same.
    expected, found = (tensors_of(folder / "Model/CVUSA/mean/polar_1") for folder in (with_other_parts, tmp_path))
    for key in expected:
        if "moving_mean" in key:
            np.testing.assert_allclose(found[key], expected[key], atol=0.3 * np.abs(expected[key]).max())


def test_imagenet_weights_and_hard_negatives_are_refused_where_they_do_not_fit(with_other_parts, tmp_path):
    os.symlink(with_other_parts / "Data", tmp_path / "Data")
    training = TRAINING | {"batch_hard_count": 2}
    assert "--loss soft_margin_triplet" in complains(PARTS, "train", **NETWORK, **training, cwd=tmp_path)
    assert "is not one of VGG16" in complains("train_cvusa.py", backbone="small", cwd=tmp_path)
