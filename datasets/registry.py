"""The datasets that the scripts know: a new one is a line here."""

from datasets.cvact import CVACT, CVACTTest
from datasets.cvusa import CVUSA

DATASETS = {dataset.name.lower(): dataset for dataset in (CVUSA, CVACT, CVACTTest)}
