"""What the project's scripts share: files to pairs to descriptors to recalls, and the training of a network."""

import os

__version__ = "1.0.0"

# Set before TensorFlow or Keras is imported. A user's own values stay, but for the backend: checkpoints are TensorFlow's.
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# oneDNN's convolutions; TensorFlow has them off on CPUs without AVX-512 VNNI, where they are 3 to 5 times faster too.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

from safa.loading import load_network  # noqa: E402  (after the environment)

__all__ = ["load_network"]
