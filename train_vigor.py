"""Train SAFA on VIGOR, same-area: the four cities are those of the test (Zhu et al. 2021).

The four tiles that show a panorama's place are not negatives of it. VIGOR's authors train with aerial tiles: --polar 0
--aerial_input_size 320 --height 320 --width 640. It writes what train_cvact.py writes, to folders called VIGOR.
"""

from safa.datasets.vigor import VIGOR
from safa.launch.training import launch_training

if __name__ == "__main__":
    launch_training(__doc__, VIGOR)
