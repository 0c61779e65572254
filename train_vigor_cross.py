"""Train SAFA on VIGOR, cross-area: on New York and Seattle, tested on San Francisco and Chicago; else as train_vigor.py."""

from safa.datasets.vigor import VIGORCross
from safa.launch.training import launch_training

if __name__ == "__main__":
    launch_training(__doc__, VIGORCross)
