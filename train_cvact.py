"""Train SAFA on CVACT (paper, section 4): pairs less than 25 m apart are not negatives of each other.

After every epoch: recall on the validation split, a line in Result/CVACT/<network_type>_polar_<0|1>.csv, a checkpoint
in Model/CVACT/<network_type>/polar_<0|1>/. The same command again continues from the last saved step. All GPUs of this
machine are used automatically; for several machines see docs/training.md.
"""

from safa.datasets.cvact import CVACT
from safa.launch.training import launch_training

if __name__ == "__main__":
    launch_training(__doc__, CVACT)
