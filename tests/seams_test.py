"""What is said to be one new file is one new file: a dataset, a backbone, an aggregation, a loss."""

import json
import os

import numpy as np
import pytest
from conftest import TINY, complains, rows_of, succeeds, tensors_of

from recall import reported_recalls
from safa.retrieval.search import search

PARTS = "tests/programs/other_parts.py"
DATASET = "tests/programs/third_dataset.py"
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


@pytest.fixture
def third(towns, tmp_path):
    """A folder with the third dataset: 12 tiles for 24 panoramas, and for testing 10 panoramas among 14 tiles."""
    data = tmp_path / "Data"
    data.mkdir()
    os.symlink(towns / "Data/CVUSA", data / "CVUSA")
    names = [f"{number:07d}" for number in range(1, 35)]
    train = {"tiles": names[:12], "panoramas": [[name, row % 12, []] for row, name in enumerate(names[:24])]}
    tiles = names[20:34]  # four without a panorama of their own
    val = {"tiles": tiles, "panoramas": [[name, tiles.index(name), [0]] for name in names[24:]]}
    (data / "pairs.json").write_text(json.dumps({"train": train, "val": val}))
    return tmp_path


def test_a_third_dataset_whose_panoramas_share_tiles_is_trained_and_tested(third):
    settings = TINY | {"learning_rate": 1e-4}
    output = succeeds(DATASET, "train", **settings, network_type="SAFA_1", epochs=2, cwd=third)
    assert "Third" in output and "finished 2 epochs" in output and "stand in more than one row" not in output
    output = succeeds(DATASET, "test", network_type="SAFA_1", save_descriptors=third / "d.npz", cwd=third)
    assert "10 panoramas among 14 aerial images" in output and "acceptable" in output
    saved = np.load(third / "d.npz")
    sat, grd, truth = (saved[name] for name in ("sat_descriptors", "grd_descriptors", "truth"))
    assert len(sat) == 14 and len(grd) == 10 and truth.tolist() == list(range(4, 14))
    found = search(sat, grd, truth, [np.array([0, row]) for row in truth])
    result = json.loads((third / "Result/Third/SAFA_1_polar_1.json").read_text())
    assert result["recall"] == reported_recalls(found.closer, 14)
    assert result["recall_acceptable"] == reported_recalls(found.near_closer, 14)


def test_a_tile_that_is_missing_takes_its_panoramas_along_and_no_other(third):
    path = third / "Data/pairs.json"
    listed = json.loads(path.read_text())
    listed["train"]["tiles"][3] = "9999999"
    path.write_text(json.dumps(listed))
    assert "which 2 of 24 pairs need" in complains(DATASET, "train", **TINY, network_type="SAFA_1", cwd=third)
    output = succeeds(DATASET, "train", **TINY, network_type="SAFA_1", epochs=1, skip_missing=True, cwd=third)
    assert "22 pairs remain" in output and "22 pairs for training" in output
