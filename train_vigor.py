"""Train SAFA on VIGOR, same-area: the four cities are those of the test (Zhu et al. 2021).

Of a panorama, its tile and the three more that show its place are not negatives. VIGOR's authors train with aerial tiles:
--polar 0 --aerial_input_size 320 --height 320 --width 640. After every epoch: recall on the published test split, a line in
Result/VIGOR/<network_type>_polar_<0|1>.csv, a checkpoint in Model/VIGOR/<network_type>/polar_<0|1>/. The same command
again continues from the last saved step. All GPUs of this machine are used automatically.
"""

from safa.datasets.vigor import VIGOR
from safa.launch.training import launch_training
from safa.runtime.errors import reported

if __name__ == "__main__":
    with reported():
        launch_training(__doc__, VIGOR)
