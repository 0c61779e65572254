"""Test SAFA on VIGOR, cross-area: as test_vigor.py, with results in Result/VIGOR_cross/."""

from safa.datasets.vigor import VIGORCross
from safa.launch.testing import launch_testing

if __name__ == "__main__":
    launch_testing(__doc__, {"val": VIGORCross})
