"""Small datasets and the scripts as a user runs them."""

import csv
import fcntl
import itertools
import multiprocessing
import os
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest
from forked_scripts import ForkedScript, NoPictures, begin_tests

# Importing safa sets TensorFlow's environment variables, for the fork server too.
from safa.runtime.errors import ROOT, UserError

begin_tests()

# A network that trains in seconds; every setting that a run needs to be repeated.
SMALL = {"height": 32, "width": 128, "aerial_input_size": 64, "width_multiplier": 0.05}
SMALL |= {"init": "random", "keep_prob": 1, "learning_rate": 1e-3, "batch_size": 8}

# The same with a backbone of one convolution, for tests that are about anything but VGG16: it is built in a fifth of the time;
# and with the dropout of VGG16, but three convolutions.
TINY, SHALLOW = SMALL | {"backbone": "tiny"}, SMALL | {"backbone": "few_blocks"}
NETWORK = {name: TINY[name] for name in ("height", "width", "aerial_input_size", "width_multiplier", "backbone")}

# Files that take longest come first: what is left for the end is short, and all processes stay busy.
LONGEST = """distribution network training localize published_checkpoint seams figures vigor pages reproduction input_data
    data_preparation toy_world check_data pair_augmentation lasting""".split()


def pytest_collection_modifyitems(items):
    order = {f"{name}_test": number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


def pytest_sessionfinish():
    for script in multiprocessing.active_children():  # of a test that failed; pytest would wait for its end
        script.kill()


def command(*arguments, **flags):
    """The words of a command line: arguments, then flags. True is a flag without a value; False and None leave a flag out."""
    given = {name: value for name, value in flags.items() if value is not None and value is not False}
    words = ([f"--{name}"] if value is True else [f"--{name}", str(value)] for name, value in given.items())
    return [*map(str, arguments), *itertools.chain(*words)]


# Where the tests run in the background, signals are ignored, also by what they start. Handlers here give children the default.
for number in signal.SIGINT, signal.SIGHUP:
    signal.signal(number, signal.default_int_handler)


def start(script, *arguments, cwd, environment=None, before=None, **flags):
    """Start a script of the top level, of tests/programs, or the package `toy_town`; its process calls `before` first."""
    path = os.path.join(ROOT, script) if script.endswith(".py") else script
    return ForkedScript(path, command(*arguments, **flags), cwd, environment or os.environ, before)


def run(script, *arguments, cwd, **flags):
    """Run a script to its end, with flags by name (`command`): something with returncode, stdout and stderr."""
    process = start(script, *arguments, cwd=cwd, **flags)
    stdout, stderr = process.communicate()
    return subprocess.CompletedProcess(script, process.returncode, stdout, stderr)


def succeeds(script, *arguments, cwd, **flags):
    """Run a script that must end well; returns what it printed."""
    process = run(script, *arguments, cwd=cwd, **flags)
    assert process.returncode == 0, process.stderr
    return process.stdout


def complains(script, *arguments, cwd, code=2, **flags):
    """Run a script that must refuse a user's mistake with one line; returns the line."""
    process = run(script, *arguments, cwd=cwd, **flags)
    assert process.returncode == code, (process.returncode, process.stdout, process.stderr)
    lines = process.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith(f"{os.path.basename(script)}: error: "), process.stderr
    return lines[0]


def refuses(expected, function, *arguments, **keywords):
    """Call what must refuse a user's mistake with one line in which a pattern is found; returns the line."""
    with pytest.raises(UserError, match=expected) as error:
        function(*arguments, **keywords)
    line = str(error.value)
    assert line.isprintable() and len(line) < 1000, line
    return line


def wait_until(happened, process, seconds=120):
    """Wait for something that a process does, until it ends or the time is over."""
    deadline = time.monotonic() + seconds
    while process.is_alive() and time.monotonic() < deadline and not happened():
        time.sleep(0.002)


def unit(rows):
    """Rows of length 1, in float32."""
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def contents(folder, *left_out):
    """{path below a folder: bytes} of its files."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in left_out)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def events_of(run_folder):
    """A run's events, as TensorBoard reads them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run_folder / "tensorboard"), {"tensors": 0})
    events.Reload()
    return events


def rows_of(path):
    """The rows of a CSV file, as dicts."""
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def tensors_of(run_folder):
    """What a run's newest checkpoint holds, {name: array}."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(run_folder))
    names = [name for name in reader.get_variable_to_shape_map() if "GRAPH" not in name and "save_counter" not in name]
    return {name: reader.get_tensor(name) for name in names}


def made_once(tmp_path_factory, name, make):
    """A folder that serves the tests of all processes, made by `make(folder)` for the first that asks."""
    base = tmp_path_factory.getbasetemp()  # of a worker it lies in one of all
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with open(f"{folder}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            making = tmp_path_factory.mktemp(name)
            make(making)
            os.rename(making, folder)
    return folder


@pytest.fixture(scope="session")
def towns(tmp_path_factory):
    """A folder with `Data`: toy towns in CVUSA's and CVACT's format, prepared. Not to be changed."""

    def make(folder):
        for dataset, panorama in (("cvusa", "112x616"), ("cvact", "224x448")):
            given = {"train": 24, "test": 10, "aerial_size": 128, "panorama_size": panorama, "workers": 1}
            succeeds("toy_town", dataset=dataset, **given, cwd=folder)
        succeeds("data_preparation.py", dataset="all", workers=1, cwd=folder)

    return made_once(tmp_path_factory, "towns", make)


@pytest.fixture(scope="session")
def trained_on_cvact(towns, tmp_path_factory):
    """A folder with the `Data` of `towns`, and a SAFA_2 trained on CVACT, without libraries of pictures. Not to be changed."""

    def make(folder):
        os.symlink(towns / "Data", folder / "Data")
        given = TINY | {"network_type": "SAFA_2", "epochs": 1}
        succeeds("train_cvact.py", **given, before=NoPictures.begin, cwd=folder)

    return made_once(tmp_path_factory, "trained_on_cvact", make)


@pytest.fixture
def in_time():
    """Ends a test that waits for ever."""
    signal.signal(signal.SIGALRM, lambda *_: pytest.fail("waits for ever"))
    signal.alarm(20)
    yield
    signal.alarm(0)


@pytest.fixture
def here(towns, tmp_path):
    """An empty folder but for a link to the `Data` of `towns`."""
    os.symlink(towns / "Data", tmp_path / "Data")
    return tmp_path


@pytest.fixture
def with_network(trained_on_cvact, here):
    """The same with a link to the `Model` of `trained_on_cvact`."""
    os.symlink(trained_on_cvact / "Model", here / "Model")
    return here


@pytest.fixture
def own_towns(towns, tmp_path):
    """A copy of `towns` to break."""
    shutil.copytree(towns / "Data", tmp_path / "Data")
    return tmp_path
