"""Queries that are corrupted as the benchmark of robustness corrupts them."""

import json
import os

import pytest
from conftest import TINY, complains, refuses, succeeds
from forked_scripts import two_corruptions, with_corruptions


@pytest.fixture(scope="module")
def trained(towns, tmp_path_factory):
    """A folder with a network trained on CVACT's toy town, and its clean test."""
    folder = tmp_path_factory.mktemp("trained")
    os.symlink(towns / "Data", folder / "Data")
    succeeds("train_cvact.py", **TINY, network_type="SAFA_1", epochs=4, cwd=folder)
    succeeds("test_cvact.py", network_type="SAFA_1", cwd=folder)
    return folder


def test_try(trained):
    given = {"network_type": "SAFA_1", "cwd": trained, "before": two_corruptions}
    print(succeeds("test_cvact.py", corruption="all", report=True, **given))
    print(succeeds("test_cvact.py", corruption="all", report=True, **given))
    print(succeeds("test_cvact.py", corruption="fog", severity=0, **given))
    print(succeeds("test_cvact.py", corruption="c_all", **given))
    print(succeeds("recall_tables.py", output="out", cwd=trained))
    print(sorted(os.listdir(trained / "Result/CVACT")), trained)
    assert 0
