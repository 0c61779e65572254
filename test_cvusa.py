"""Test SAFA on CVUSA (paper, table 1): recall of the true aerial image among all of the validation split.

Prints a table and writes Result/CVUSA/<network_type>_polar_<0|1>.json.
"""

from runtime.errors import reported

from datasets.cvusa import CVUSA
from launch import launch_testing

if __name__ == "__main__":
    with reported():
        launch_testing(__doc__, {"val": CVUSA})
