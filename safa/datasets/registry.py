"""The datasets that the scripts know: a new one is a line here."""

from safa.datasets.cvact import CVACT, CVACTTest
from safa.datasets.cvusa import CVUSA

DATASETS = {dataset.name.lower(): dataset for dataset in (CVUSA, CVACT, CVACTTest)}
