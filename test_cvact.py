"""Test SAFA on CVACT (paper, table 2): recall of the true aerial image among all of CVACT_val or CVACT_test.

Prints a table and writes Result/CVACT/<network_type>_polar_<0|1>.json (Result/CVACT_test/... with --split test).
"""

from safa.datasets.cvact import CVACT, CVACTTest
from safa.launch.testing import launch_testing

if __name__ == "__main__":
    launch_testing(__doc__, {"val": CVACT, "test": CVACTTest})
