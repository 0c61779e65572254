"""What TensorFlow computes on and how precisely; imports it when it is asked."""

import contextlib
import ctypes
import glob
import os
import sys
import tempfile
import threading

from safa.runtime.errors import UserError

# What NVIDIA's driver makes on Linux, and Windows' in WSL 2.
NVIDIA_DRIVER = ("/proc/driver/nvidia/gpus/*", "/dev/nvidia[0-9]*", "/usr/lib/wsl/lib/libcuda.so*")

CPU_INFORMATION = "/proc/cpuinfo"
BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # of x86, x86 with AMX, and Arm, as Linux names them
M_PERTURB = -6  # glibc's malloc.h: fill the memory that it gives with the complement of a byte
_STDERR = threading.RLock()  # two threads that exchange the process's standard error at once would lose it


@contextlib.contextmanager
def importing_tensorflow():
    """A context that imports TensorFlow without the lines on missing GPU libraries that it writes before its log level counts.

    They look like errors to users without a GPU; `devices` says what is used. If an import fails, they are shown.
    """
    with _STDERR, tempfile.TemporaryFile() as lines:
        sys.stderr.flush()
        stderr = os.dup(2)
        os.dup2(lines.fileno(), 2)
        try:
            yield
        except BaseException:
            lines.seek(0)
            os.write(stderr, lines.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def devices():
    """Name the devices that TensorFlow computes on: "2 GPUs" or "CPU"."""
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
    what = "this machine has an NVIDIA GPU that TensorFlow does not see, so the CPU is used, many times slower"
    return f"{what}; run: pip install -r requirements-gpu.txt (CUDA_VISIBLE_DEVICES=-1 chooses the CPU without this line)"


def cpu_has_bfloat16():
    """Whether this machine's CPU has instructions for bfloat16; True where the system does not say.

    Without them TensorFlow computes bfloat16 in software, 15 times slower than float32 on a CPU with AVX2.
    """
    try:
        with open(CPU_INFORMATION, encoding="utf-8", errors="replace") as file:
            flags = next((line.split() for line in file if line.lower().startswith(("flags", "features"))), None)
    except OSError:
        flags = None
    return flags is None or not BFLOAT16_FLAGS.isdisjoint(flags)


def compute_in(precision):
    """Set TensorFlow's and Keras's arithmetic for this process, whatever ~/.keras/keras.json or a notebook says.

    Args:
        precision: "float32" keeps NVIDIA GPUs from rounding a convolution's inputs to TensorFloat-32, which they do by
            default since Ampere; "tf32" allows it; "bfloat16" is the network's choice (`spatial_net.network`).

    Raises:
        UserError: bfloat16 on a CPU without instructions for it, or Keras was imported before safa, with another backend.
    """
    import keras
    import tensorflow

    if (other := keras.config.backend()) != "tensorflow":
        raise UserError(f"Keras runs on {other} in this process; import safa before Keras, or set KERAS_BACKEND=tensorflow")
    if precision == "bfloat16" and not tensorflow.config.list_physical_devices("GPU"):
        if not cpu_has_bfloat16():
            what = "this CPU computes it in software, many times slower"
            raise UserError(f"--precision bfloat16: {what}; use --precision float32")
        # oneDNN's gradient of a convolution on AMX multiplies memory that it never wrote by 0: NaN where NaN lay there, in two
        # of some twenty runs (TensorFlow 2.21; akin to oneDNN's issue 5717). Zeros there cost no time that could be measured.
        getattr(ctypes.CDLL(None), "mallopt", lambda *_: None)(M_PERTURB, 0xFF)
    tensorflow.get_logger().setLevel("ERROR")  # its warnings are about deprecated parts of its own, and about tracing
    tensorflow.config.experimental.enable_tensor_float_32_execution(precision == "tf32")
    keras.config.set_floatx("float32")  # of the learning rate
    keras.config.set_dtype_policy("float32")  # of layers for which no other is named
    keras.config.set_image_data_format("channels_last")


@contextlib.contextmanager
def explain_tensorflow_errors(distribution, remedy):
    """Say in a user's words what TensorFlow says about memory and about other processes.

    `remedy`: what to do when the memory of a device of the Distribution is full.
    """
    import tensorflow as tf

    try:
        yield
    except tf.errors.ResourceExhaustedError:
        raise UserError(f"the device's memory is full; use {remedy}") from None
    except tf.errors.OpError as error:
        if not distribution.has_others:
            raise
        what = f"another process of the run has ended or cannot be reached ({type(error).__name__})"
        raise UserError(f"{what}; start all of them again: they go on from the last checkpoint") from None
