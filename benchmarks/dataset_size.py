"""What lists, file checks and positions cost at CVACT_test's count, and a checkpoint at the paper's width.

Nothing is decoded: all files are links to one prepared image. Prints seconds and CPU seconds of each step.
Run from the repository's root: python -m benchmarks.dataset_size
"""

import argparse
import os
import tempfile
import time

import numpy as np
import scipy.io

from benchmarks.plain_networks import process_memory
from safa.datasets.checks import check_lists
from safa.datasets.cvact import CVACTTest
from safa.datasets.image_files import write_image
from safa.datasets.preparation import PREPARED_SIZE
from safa.launch.given_data import Folders, checked_pairs
from safa.retrieval.task import task_of
from safa.settings import NetworkConfig

METRES_APART = 4.0  # mean distance of a place to its neighbour, so some lie within 5 m


def measured(title, function, *arguments):
    """Call a function and print what it took; returns its result."""
    begin, cpu = time.perf_counter(), time.process_time()
    result = function(*arguments)
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    print(f"{title:44} {seconds:7.2f} s, {cpu:7.2f} s of CPU; {process_memory():.1f} GB", flush=True)
    return result


def write_dataset(data_dir, pairs):
    """Write CVACT_test's list with so many places, and links in place of its prepared files."""
    random = np.random.default_rng(0)
    names = np.array([f"place{number:017d}" for number in range(pairs)])
    utm = random.uniform(0, METRES_APART * pairs**0.5, (pairs, 2)) + (693_000, 6_090_000)
    os.makedirs(os.path.join(data_dir, CVACTTest.released))
    indices = {"valSetAll": {"valInd": np.arange(1, pairs + 1)[:, None]}}
    mat = os.path.join(data_dir, CVACTTest.released, "ACT_data.mat")
    scipy.io.savemat(mat, {"panoIds": names, "utm": utm} | indices)
    image = os.path.join(data_dir, "image.png")
    write_image(image, random.integers(0, 256, (*PREPARED_SIZE, 3), np.uint8))
    listed = CVACTTest(data_dir).pairs("test")
    for paths in listed.sat_paths, listed.grd_paths:
        os.makedirs(os.path.dirname(paths[0]), exist_ok=True)
        for path in paths:
            os.symlink(image, path)


def save_checkpoint(folder):
    """Write a checkpoint of SAFA_8 with Adam's moments, and the best weights beside it."""
    from safa.training.checkpoints import Progress

    _checkpoints(folder).save(Progress(epochs=1), best=True)
    size = sum(os.path.getsize(os.path.join(root, name)) for root, _, names in os.walk(folder) for name in names)
    print(f"both take {size / 1e6:,.0f} MB")


def restore_checkpoint(folder):
    """Read it into a new network."""
    assert _checkpoints(folder).restore()[1] is not None


def _checkpoints(folder):
    from safa.parts import build_network
    from safa.runtime.distribution import Distribution
    from safa.training.checkpoints import RunCheckpoints
    from safa.training.step import adam

    distribution = Distribution(None, "float32")  # before TensorFlow starts a GPU
    model, optimizer = build_network(NetworkConfig(), 0.8, 0, "float32"), adam(1e-5)
    optimizer.build(model.trainable_variables)
    return RunCheckpoints(folder, model, optimizer, distribution)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--pairs", type=int, default=92_802, help="places")
    pairs = parser.parse_args().pairs
    with tempfile.TemporaryDirectory() as folder:
        write_dataset(folder, pairs)
        dataset = CVACTTest(folder)
        listed = measured(f"list of {pairs:,} places", dataset.pairs, "test")
        measured("checks of the list", check_lists, {"test": listed})
        measured(f"size and end of {2 * pairs:,} files", checked_pairs, dataset, "test", NetworkConfig(), Folders(folder))
        task = measured("places within 5 m of each", task_of, listed)
        print(f"{sum(map(len, task.near)) / pairs:.2f} hits a query")
    with tempfile.TemporaryDirectory() as folder:
        measured("network, and a checkpoint of it with Adam", save_checkpoint, folder)
        measured("network, restored", restore_checkpoint, folder)


if __name__ == "__main__":
    main()
