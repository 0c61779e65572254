"""However a batch is spread, over devices, processes or parts, it trains the same network."""

import json
import os
import platform
import re
import shutil
import signal
import socket
import threading
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT, SHALLOW, TINY, complains, events_of, refuses, rows_of, start, succeeds, tensors_of

from safa.datasets.cvact import CVACT
from safa.runtime import backend, provenance
from safa.runtime.cluster import processes
from safa.runtime.distribution import Distribution

# 12 steps with dropout at the paper's rate. Narrower networks and higher rates amplify rounding: where it turns a ReLU
# or the choice of a pooling, Adam takes another step of full size.
FLAGS = SHALLOW | {"keep_prob": 0.8, "learning_rate": 1e-5, "width_multiplier": 0.125, "network_type": "SAFA_2", "epochs": 4}
FLAGS |= {"log_every": 1, "skip_missing": True}
SMALLEST = TINY | {"network_type": "VGG_gp", "log_every": 1}
SCRIPT, RUN = "train_cvact.py", "Model/CVACT/SAFA_2/polar_1"  # CVACT's close pairs are not negatives


@pytest.fixture(scope="module")
def alone(towns, tmp_path_factory):
    """A folder with a run on one device; 9 pairs for validation. Not to be changed."""
    folder = tmp_path_factory.mktemp("alone")
    shutil.copytree(towns / "Data", folder / "Data")
    os.unlink(CVACT(folder / "Data").pairs("val").sat_paths[3])
    assert "9 pairs remain" in succeeds(SCRIPT, **FLAGS, cwd=folder)
    return folder


def losses_weights_and_recalls(folder):
    """The loss of every step, from TensorBoard's files; the network's variables; the lines of epochs."""
    events = events_of(folder / RUN)
    assert {"steps/learning rate", "steps/pairs/s", "steps/input wait", "epochs/recall@1%"} <= set(events.Tags()["tensors"])
    losses = np.array([tf.make_ndarray(event.tensor_proto) for event in events.Tensors("steps/loss")])
    weights = [tensor.ravel() for name, tensor in sorted(tensors_of(folder / RUN).items()) if name.startswith("network/")]
    lines = rows_of(folder / "Result/CVACT/SAFA_2_polar_1.csv")
    return losses, np.concatenate(weights), [row | {"loss": 0, "seconds": 0} for row in lines]


def assert_same_training(folder, expected):
    (found, weights, recalls), (loss, other_weights, other_recalls) = map(losses_weights_and_recalls, (folder, expected))
    assert len(loss) == 12 and recalls == other_recalls
    # Rounding makes 4e-7 in the first steps. Where it turns a ReLU it grows, to 3e-5 after 21 steps on four cores and less
    # on two. Other masks of dropout or other negatives make 1e-2 at once.
    np.testing.assert_allclose(found[:6], loss[:6], rtol=0, atol=2e-6)
    np.testing.assert_allclose(found, loss, rtol=0, atol=1e-4)
    differences = np.abs(weights - other_weights)
    assert differences.max() < 1e-4 and differences.mean() < 1e-6  # 12 steps of 1e-5 could make them 2.4e-4


def start_two(script, flags, data, folder, of_second=None):
    """Start a script as two processes of one run, in folders "0" and "1" with a link to the data; the second's flags differ."""
    with socket.create_server(("localhost", 0)) as first, socket.create_server(("localhost", 0)) as second:
        addresses = [f"localhost:{each.getsockname()[1]}" for each in (first, second)]
    processes = []
    for index in range(2):
        machine = folder / str(index)
        machine.mkdir()
        os.symlink(data, machine / "Data")
        config = json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}})
        of_machine = flags | (of_second or {} if index else {})
        processes.append(start(script, **of_machine, cwd=machine, environment=os.environ | {"TF_CONFIG": config}))
    return processes


def test_two_devices_train_what_one_device_trains(alone, tmp_path):
    os.symlink(alone / "Data", tmp_path / "Data")
    assert "on 2 CPU devices" in succeeds(SCRIPT, **FLAGS, devices=2, cwd=tmp_path)
    assert_same_training(tmp_path, alone)
    for devices in (1, 2):
        flags = {"network_type": "SAFA_2", "skip_missing": True, "save_descriptors": f"{devices}.npz"}
        succeeds("test_cvact.py", **flags, devices=devices, cwd=tmp_path)
    one, two = (np.load(tmp_path / f"{devices}.npz")["grd_descriptors"] for devices in (1, 2))
    assert len(one) == 9
    np.testing.assert_allclose(one, two, rtol=0, atol=1e-6)


def test_two_processes_train_what_one_device_trains(alone, tmp_path):
    processes = start_two(SCRIPT, FLAGS, alone / "Data", tmp_path)
    outputs = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert "2 CPU devices of 2 processes" in outputs[0][0]
    assert_same_training(tmp_path / "0", alone)
    assert os.listdir(tmp_path / "1") == ["Data"], "only the chief writes"


@pytest.mark.parametrize("stopped", [signal.SIGTERM, signal.SIGKILL])
def test_when_one_process_is_stopped_all_end(towns, tmp_path, stopped):
    processes = start_two("train_cvusa.py", SMALLEST | {"epochs": 10000, "save_every": 2}, towns / "Data", tmp_path)
    next(line for line in processes[0].stdout if line.startswith("epoch 2, step 1"))
    processes[1].send_signal(stopped)
    errors = [process.communicate(timeout=120)[1] for process in processes]
    if stopped == signal.SIGTERM:  # of the one that does not write; the other one saves
        assert [process.returncode for process in processes] == [143, 143], errors
        assert all("is saved up to step" in error and "Traceback" not in error for error in errors)
    else:
        assert processes[0].returncode == 2 and "another process of the run has ended" in errors[0], errors
    assert list((tmp_path / "0/Model/CVUSA/VGG_gp/polar_1").glob("ckpt-*.index"))


def test_processes_that_were_started_differently_are_refused(towns, tmp_path):
    for process in start_two("train_cvusa.py", SMALLEST, towns / "Data", tmp_path, {"seed": 5}):
        _, error = process.communicate(timeout=120)
        assert process.returncode == 2 and "different settings" in error, error


def test_parts_and_devices_give_the_gradients_of_the_whole_batch():
    succeeds("tests/programs/gradients.py", cwd=ROOT)


WORKER = '{"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": %s}}'
CHIEF = '{"cluster": {"chief": ["a:1"], "worker": ["b:2"]}, "task": {"type": "%s", "index": %s}}'
OF_PARAMETERS = '{"cluster": {"ps": ["a:1"]}, "task": {"type": "ps", "index": 0}}'


def test_a_tf_config_devices_and_batches_that_cannot_be_are_one_line(here, monkeypatch):
    wrong = WORKER % 2, WORKER % "1e400", WORKER % '"x"', CHIEF % ("worker", -1), CHIEF % ("evaluator", 0)
    for config in "{", "[]", OF_PARAMETERS, *wrong, "[" * 100_000:
        monkeypatch.setenv("TF_CONFIG", config)
        assert len(refuses("TF_CONFIG", processes)) < 500
    monkeypatch.setenv("TF_CONFIG", CHIEF % ("worker", 0))
    assert processes() == (2, 1)
    monkeypatch.undo()
    mistakes = ("devices", 3, "--batch_size 8"), ("micro_batch", 3, "--micro_batch 3"), ("devices", 10**30, "--devices")
    for flag, value, expected in mistakes:
        assert expected in complains("train_cvusa.py", **TINY, **{flag: value}, cwd=here)


def test_ctrl_c_ends_a_process_that_waits_for_the_others(towns, tmp_path):
    waiting, other = start_two("train_cvusa.py", SMALLEST, towns / "Data", tmp_path, {"seed": "wrong"})
    assert other.wait() == 2
    next(line for line in waiting.stdout if "waiting until all 2 processes" in line)
    time.sleep(0.5)  # TensorFlow waits, not Python
    waiting.send_signal(signal.SIGINT)
    assert waiting.wait(timeout=20) == -signal.SIGINT


def test_a_gpu_that_tensorflow_does_not_see_is_named_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(backend, "NVIDIA_DRIVER", [str(tmp_path / "nvidia[0-9]")])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert not Distribution().notes
    (tmp_path / "nvidia0").touch()
    (note,) = Distribution().notes
    assert "pip install -r requirements-gpu.txt" in note
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert not Distribution().notes


def test_two_threads_that_load_networks_at_once_leave_standard_error_where_it_was():
    before, left = os.fstat(2), threading.Event()
    second = threading.Thread(target=backend.importing_tensorflow()(left.wait))
    with backend.importing_tensorflow():
        second.start()
        time.sleep(0.1)
    left.set()
    second.join()
    assert os.path.samestat(os.fstat(2), before)


@pytest.mark.skipif(not backend.cpu_has_bfloat16(), reason="bfloat16 is refused")
def test_gradients_in_bfloat16_do_not_depend_on_what_lay_in_memory():
    succeeds("tests/programs/used_memory.py", cwd=ROOT)


def test_results_name_the_processor_and_what_it_computes_bfloat16_with(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "CPU_INFORMATION", str(tmp_path / "cpuinfo"))
    assert re.match(rf"\d+ cores of {platform.processor() or platform.machine()}, ", provenance.session()["machine"])
    (tmp_path / "cpuinfo").write_text("model name\t: AMD EPYC\nflags\t\t: avx2 avx512f avx512_bf16\n")
    assert " cores of AMD EPYC with AVX-512 BF16, " in provenance.machine()
    (tmp_path / "cpuinfo").write_text("model name\t: Old\nflags\t\t: sse2\n")
    assert " cores of Old, " in provenance.machine()


def test_bfloat16_is_refused_on_a_cpu_that_computes_it_in_software(tmp_path, monkeypatch):
    monkeypatch.setattr(backend, "CPU_INFORMATION", str(tmp_path / "cpuinfo"))
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    for flags in "flags\t\t: fpu avx2 fma", "Features\t: fp asimd":
        (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{flags}\n")
        refuses("--precision bfloat16: .* use --precision float32", Distribution, precision="bfloat16")
    for flags in "flags\t\t: avx512f avx512_bf16", "Features\t: fp asimd bf16", "nothing known":
        (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{flags}\n")
        Distribution(precision="bfloat16")
    keras.config.set_floatx("float16")  # in ~/.keras/keras.json, or by a notebook
    keras.config.set_dtype_policy("mixed_float16")
    keras.config.set_image_data_format("channels_first")
    for precision in ("tf32", "float32"):
        Distribution(precision=precision)
        assert keras.config.floatx() == keras.config.dtype_policy().name == "float32"
        assert keras.config.image_data_format() == "channels_last"
        assert tf.config.experimental.tensor_float_32_execution_enabled() == (precision == "tf32")
    monkeypatch.setattr("keras.config.backend", lambda: "torch")
    refuses("Keras runs on torch .* import safa before Keras", Distribution)
