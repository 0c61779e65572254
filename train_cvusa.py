"""Train SAFA on CVUSA (paper, section 4): all other pairs of a batch are negatives.

After every epoch: recall on the validation split, a line in Result/CVUSA/<network_type>_polar_<0|1>.csv, a checkpoint
in Model/CVUSA/<network_type>/polar_<0|1>/. The same command again continues from the last saved step. All GPUs of this
machine are used automatically; for several machines see docs/training.md.
"""

from safa.datasets.cvusa import CVUSA
from safa.launch.training import launch_training

if __name__ == "__main__":
    launch_training(__doc__, CVUSA)
