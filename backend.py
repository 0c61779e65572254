"""Keras on TensorFlow: imported before either, by every module that uses one of them."""
import glob
import os
import sys
import tempfile

os.environ["KERAS_BACKEND"] = "tensorflow"  # whatever the user's keras.json says: checkpoints are TensorFlow's
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# oneDNN's convolutions; TensorFlow has them off on CPUs without AVX-512 VNNI, where they are 3 to 5 times faster too.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


# What NVIDIA's driver makes on Linux, and Windows' in WSL 2.
NVIDIA_DRIVER = ("/proc/driver/nvidia/gpus/*", "/dev/nvidia[0-9]*", "/usr/lib/wsl/lib/libcuda.so*")


def _import_quietly():
    """Import TensorFlow without the lines on missing GPU libraries that it writes before its log level counts.

    They look like errors to users without a GPU; `devices` says what is used. If the import fails, they are shown.
    """
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as notes:
        os.dup2(notes.fileno(), 2)
        try:
            import tensorflow  # noqa: F401
        except Exception:
            notes.seek(0)
            os.write(stderr, notes.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


if "tensorflow" not in sys.modules:
    _import_quietly()


def devices():
    """The devices that TensorFlow computes on, for a person: "2 GPUs" or "CPU"."""
    import tensorflow
    gpus = len(tensorflow.config.list_physical_devices("GPU"))
    return f"{gpus} GPU{'s' if gpus > 1 else ''}" if gpus else "CPU"


def unused_gpu_warning():
    """A line for a user whose NVIDIA GPU TensorFlow does not see, or None.

    TensorFlow's wheel holds no CUDA libraries, and without them it computes on the CPU and says nothing.
    """
    import tensorflow
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if hidden or tensorflow.config.list_physical_devices("GPU") or not any(map(glob.glob, NVIDIA_DRIVER)):
        return None
    return ("this machine has an NVIDIA GPU that TensorFlow does not see, so the CPU is used, many times slower; run: "
            "pip install -r requirements-gpu.txt (with CUDA_VISIBLE_DEVICES=-1 the CPU is used without this line)")
