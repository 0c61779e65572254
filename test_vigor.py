"""Test SAFA on VIGOR, same-area: recall of the true tile among all tiles of the test's cities, and VIGOR's hit rate.

Prints a table and writes Result/VIGOR/<network_type>_polar_<0|1>.json.
"""

from safa.datasets.vigor import VIGOR
from safa.launch.testing import launch_testing

if __name__ == "__main__":
    launch_testing(__doc__, {"val": VIGOR})
