"""Keras on TensorFlow: imported before either, by every module that uses one of them."""
import os
import sys
import tempfile

os.environ["KERAS_BACKEND"] = "tensorflow"  # whatever the user's keras.json says: checkpoints are TensorFlow's
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# oneDNN's convolutions; TensorFlow has them off on CPUs without AVX-512 VNNI, where they are 3 to 5 times faster too.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


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
