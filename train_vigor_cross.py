"""Train SAFA on VIGOR, cross-area: New York and Seattle are trained on, San Francisco and Chicago tested (Zhu et al. 2021).

Where things are written, and what VIGOR's authors train with: see train_vigor.py.
"""

from safa.datasets.vigor import VIGORCross
from safa.launch.training import launch_training
from safa.runtime.errors import reported

if __name__ == "__main__":
    with reported():
        launch_training(__doc__, VIGORCross)
