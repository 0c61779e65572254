"""What is said to be one new function and a line is no more: a backbone, an aggregation, a loss."""

import json

import numpy as np
from conftest import complains, rows_of, succeeds, tensors_of

from safa.datasets.image_files import image_size

PARTS = "tests/programs/other_parts.py"
NETWORK = {"network_type": "mean", "backbone": "small", "width_multiplier": 0.1, "height": 32, "width": 128}
TRAINING = {"loss": "info_nce", "init": "random", "learning_rate": 1e-3, "batch_size": 8}


def test_other_parts_learn_and_are_tested_with_what_they_learned(here):
    given = NETWORK | TRAINING | {"batch_hard_count": 2, "cwd": here}
    assert "--loss soft_margin_triplet" in complains(PARTS, "train", **given)
    assert "invalid choice: 'small'" in complains("train_cvusa.py", backbone="small", cwd=here)
    succeeds(PARTS, "train", **NETWORK, **TRAINING, epochs=2, cwd=here)
    one, two = rows_of(here / "Result/CVUSA/mean_polar_1.csv")
    assert float(two["loss"]) < float(one["loss"])
    learned = tensors_of(here / "Model/CVUSA/mean/polar_1")
    means = [value for key, value in learned.items() if "moving_mean" in key]
    assert len(means) == 2 and all(np.abs(mean).max() > 0.01 for mean in means)
    assert any("seed_generator" in key for key in learned)  # of Keras's dropout
    assert learned["network/loss/00_scale"] != 10 and "adam/loss/00_scale/velocity" in learned  # the loss's temperature
    assert learned["network/loss/state_00_count"] == 1 + 2 * (24 // 8)
    assert "small" in succeeds(PARTS, "test", network_type="mean", checkpoint="last", cwd=here)
    assert json.loads((here / "Result/CVUSA/mean_polar_1_last.json").read_text())["recall"]["1"] == float(two["recall@1"])


def test_one_backbone_for_both_views_hard_batches_and_other_views_are_trained_resumed_and_tested(here):
    prepared = {"prepared_dir": "Prepared", "cwd": here}
    succeeds(PARTS, "prepare_views", dataset="views", workers=1, **prepared)
    assert image_size(str(next((here / "Prepared/CVUSA/polarmap/19").glob("*.png")))) == (61, 336)
    settings = NETWORK | TRAINING | {"backbone": "augmented", "shared": 1, "sampler": "near_then_alike"}
    for flag in ({"random_heading": True}, {"train_fov": 90}, {"rotate_pairs": True}):
        assert "Views has none" in complains(PARTS, "train_views", **settings, **flag, **prepared)
    run_folder, exact = here / "Model/Views/mean/polar_1", {"epochs": 2, "save_every": 1, "deterministic": True, **prepared}
    succeeds(PARTS, "train_views", **settings, **exact)
    expected = tensors_of(run_folder)
    assert sorted(expected["progress/order"]) == list(range(24)) and not any("grd/backbone" in key for key in expected)
    for path in (*run_folder.glob("ckpt-5.*"), *run_folder.glob("ckpt-6.*")):  # of the second epoch's second step and end
        path.unlink()
    output = succeeds(PARTS, "train_views", **settings, **exact)
    assert "going on after epoch 1 of 2 and 1 steps" in output  # in the order that it began with, by descriptors of then
    found = tensors_of(run_folder)
    assert expected.keys() == found.keys() and all(np.array_equal(expected[key], found[key]) for key in expected)
    elsewhere = {"model_dir": "spread", "result_dir": "spread", "devices": 2, "micro_batch": 2}
    succeeds(PARTS, "train_views", **settings, epochs=2, **elsewhere, **prepared)
    # Each part is normalised by its own statistics, as usual, and has its own dropout, so losses are not the same.
    found = tensors_of(here / "spread/Views/mean/polar_1")
    means = {key for key in expected if "moving_mean" in key}
    assert found.keys() == expected.keys() and means
    for key in means:
        np.testing.assert_allclose(found[key], expected[key], atol=0.3 * np.abs(expected[key]).max())
    flags = {"network_type": "mean", "checkpoint": "last", **prepared}
    assert "one backbone for both" in succeeds(PARTS, "test_views", **flags)
    recall = json.loads((here / "Result/Views/mean_polar_1_last.json").read_text())["recall"]["1"]
    assert recall == float(rows_of(here / "Result/Views/mean_polar_1.csv")[-1]["recall@1"])
    assert "--fov: turns or cuts" in complains(PARTS, "test_views", **flags, fov=90)
