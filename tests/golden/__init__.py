"""What the authors' published code computed (TensorFlow 1.15, SciPy 1.1), and the recipe of its inputs."""

import pathlib

GOLDEN = pathlib.Path(__file__).parent
NETWORKS = {
    "SAFA_8_polar_1": ("SAFA_8", 1),
    "SAFA_8_polar_0": ("SAFA_8", 0),
    "SAFA_1_polar_1": ("SAFA_1", 1),
    "VGG_gp_polar_1": ("VGG_gp", 1),
}
