"""The datasets that the scripts know: a new one is a line here."""

import os

from safa.datasets.cvact import CVACT, CVACTTest
from safa.datasets.cvusa import CVUSA
from safa.datasets.vigor import VIGOR, VIGORCross

DATASETS = {dataset.name.lower(): dataset for dataset in (CVUSA, CVACT, CVACTTest, VIGOR, VIGORCross)}


def dataset_in(path):
    """Name of the dataset that a path's folders are called after, or None."""
    names = {kind.name for kind in DATASETS.values()}
    return next((part for part in reversed(os.path.abspath(path).split(os.sep)) if part in names), None)
