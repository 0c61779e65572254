"""Test SAFA on CVUSA (paper, table 1): recall of the true aerial image among all of the validation split.

Prints a table and writes Result/CVUSA/<network_type>_polar_<0|1>.json.
"""

from safa.datasets.cvusa import CVUSA
from safa.launch.testing import launch_testing

if __name__ == "__main__":
    launch_testing(__doc__, {"val": CVUSA})
