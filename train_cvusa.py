"""Train SAFA on CVUSA (paper, section 4): all other pairs of a batch are negatives.

After every epoch: recall on the validation split, a line in Result/CVUSA/<network_type>_polar_<0|1>.csv, a checkpoint
in Model/CVUSA/<network_type>/polar_<0|1>/. The same command again goes on from the last saved step. Several GPUs
are used by themselves, several machines with TF_CONFIG (README).
"""
from runtime.errors import reported
from input_data import CVUSA
from launch import launch_training

if __name__ == "__main__":
    with reported():
        launch_training(__doc__, CVUSA)
