"""What the project's scripts share: files to pairs to descriptors to recalls, and the training of a network."""

import importlib.util
import os
import sys

__version__ = "1.0.0"

# Streams that the shell closed (2>&-) lead nowhere: the next file that is opened would get what libraries write there.
for name in "stdin", "stdout", "stderr":
    if getattr(sys, name) is None:
        setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))

# Every script imports this first, so what is missing is said in a line. An old Python must be able to read this file.
REQUIRED = "tensorflow keras numpy cv2 simplejpeg PIL scipy h5py tqdm matplotlib jinja2 msgspec tabulate".split()
MISSING = [name for name in REQUIRED if importlib.util.find_spec(name) is None]
if sys.version_info < (3, 10):  # noqa: UP036
    MISSING = ["Python 3.10 to 3.13"]
elif os.name == "nt":  # no fcntl, no links
    MISSING = ["Linux, macOS or WSL 2"]
if MISSING:
    print(f"{sys.executable} lacks {', '.join(MISSING)}; run make, or: pip install -r requirements.txt", file=sys.stderr)
    sys.exit(2)

# Set before TensorFlow or Keras is imported. A user's own values stay, but for the backend: checkpoints are TensorFlow's.
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# oneDNN's convolutions; TensorFlow has them off on CPUs without AVX-512 VNNI, where they are 3 to 5 times faster too.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def __getattr__(name):
    """`from safa import load_network`, imported when it is asked for: scripts that check their flags need none of it."""
    if name != "load_network":
        raise AttributeError(f"module 'safa' has no attribute {name!r}")
    from safa.loading import load_network

    return load_network
