"""Pairs/s that reading delivers at the paper's sizes, per setting, beside what a training step on a GPU would consume.

Also: seconds and memory for a list of a million rows.
Run from the repository's root: python -m benchmarks.reading_pairs
"""

import argparse
import os
import tempfile
import time

import cv2
import numpy as np

from benchmarks.plain_networks import process_memory
from benchmarks.preparing_images import blurred_noise
from input_data import batches
from safa.datasets.cvusa import CVUSA
from safa.datasets.dataset import POLAR, Pairs
from safa.datasets.pair_images import PairImages
from safa.datasets.preparation import PNG
from safa.runtime.worker_pool import available_cores

SHAPE = 112, 616
GFLOP_PAIR = 254  # of a training step
GPUS = {"8 TFLOP/s": 8e12, "60 TFLOP/s": 60e12, "400 TFLOP/s": 400e12}


def made_pairs(folder, count):
    """Files of `count` pairs, as large as natural ones."""
    random = np.random.default_rng(0)
    paths = {"sat": [], "grd": []}
    for number in range(count):
        for view, size, extension in (("sat", SHAPE, "png"), ("grd", (224, 1232), "jpg")):
            paths[view].append(os.path.join(folder, f"{view}{number}.{extension}"))
            options = PNG if extension == "png" else (cv2.IMWRITE_JPEG_QUALITY, 92)
            cv2.imwrite(paths[view][-1], blurred_noise(random, *size), options)
    ids = [str(number) for number in range(count)]
    return Pairs(CVUSA(folder), "train", POLAR, ids, paths["sat"], paths["grd"], paths["sat"])


def rate(images, threads):
    """Pairs/s of an epoch."""
    begin = time.perf_counter()
    order = np.random.default_rng(0).permutation(len(images.pairs))
    for _ in batches(images, order, 32, threads):
        pass
    return len(order) / (time.perf_counter() - begin)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--pairs", type=int, default=512, help="pairs of an epoch")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the list")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    cores = available_cores()
    print(
        "a step consumes, pairs/s: "
        + ", ".join(f"{flop / GFLOP_PAIR / 1e9:,.0f} on a GPU of {name}" for name, flop in GPUS.items())
    )
    with tempfile.TemporaryDirectory() as folder:
        pairs = made_pairs(folder, args.pairs)
        read, kept = (PairImages.of(pairs, (SHAPE, SHAPE), cached=cached) for cached in (False, True))
        rate(read, 1)
        rates = {threads: max(rate(read, threads) for _ in range(3)) for threads in sorted({1, cores})}
        one = rates[1]
        for threads, value in rates.items():
            print(
                f"no cache, {threads} threads: {value:,.0f} pairs/s ({value / one:.2f} times one thread); cores to feed them: "
                + ", ".join(f"{flop / GFLOP_PAIR / 1e9 / one:.1f}" for flop in GPUS.values())
            )
        rate(kept, cores)
        value = max(rate(kept, cores) for _ in range(3))
        print(
            f"--cache memory, from the second epoch, {cores} threads: {value:,.0f} pairs/s "
            f"({value / one:.1f} times one thread without)"
        )
        os.makedirs(os.path.join(folder, "CVUSA", "splits"))
        with open(os.path.join(folder, "CVUSA", "splits", "train-19zl.csv"), "w") as file:
            for row in range(args.rows):
                file.write(f"bingmap/19/{row:07}.jpg,streetview/panos/{row:07}.jpg,streetview/annotations/{row:07}.png\n")
        begin = time.perf_counter()
        CVUSA(folder).pairs("train")
        print(
            f"a list of {args.rows:,} rows: {time.perf_counter() - begin:.1f} s, the process then has {process_memory():.2f} GB"
        )


if __name__ == "__main__":
    main()
