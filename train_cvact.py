"""Train SAFA on CVACT (paper, section 4): pairs less than 25 m apart are not negatives of each other.

After every epoch: recall on the validation split, a line in Result/CVACT/<network_type>_polar_<0|1>.csv, a checkpoint
in Model/CVACT/<network_type>/polar_<0|1>/. The same command again goes on from the last saved step. Several GPUs
are used by themselves, several machines with TF_CONFIG (README).
"""
from runtime.errors import reported
from input_data import CVACT
from launch import launch_training

NEGATIVE_METRES = 25.0  # the published code's threshold

if __name__ == "__main__":
    with reported():
        launch_training(__doc__, CVACT, NEGATIVE_METRES)
