"""What the authors' published code computed (TensorFlow 1.15, SciPy 1.1), and the recipe of its inputs."""

import pathlib

GOLDEN = pathlib.Path(__file__).parent
OF_NETWORKS = ("SAFA_8", 1), ("SAFA_8", 0), ("SAFA_1", 1), ("VGG_gp", 1)
NETWORKS = {f"{network_type}_polar_{polar}": (network_type, polar) for network_type, polar in OF_NETWORKS}
