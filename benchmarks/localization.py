"""Search among a million synthetic tiles: memory, seconds and recall of each way to keep and to search an index.

Descriptors have 4,096 values and lie in clusters, as those of neighbouring tiles do; a query is a noisy copy of a tile's. Real
recalls depend on the imagery; these are of the synthetic set. Needs about six times D bytes a tile on disk. Memory is what
the process has for itself; descriptors are mapped from the disk, which uses what is left. Seconds are of searches
whose descriptors the system has read before.

python -m benchmarks.localization --tiles 1000000 --folder FOLDER
"""

import argparse
import os
import shutil
import threading
import time

import numpy as np

from safa.localization.tile_search import ApproximateSearch, fit_projection, similarities, write_approximate
from safa.retrieval.search import closest

CLUSTER, SPREAD, NOISE = 20, 0.5, 1.0  # tiles that are neighbours, and their and the queries' distance in units of the length
RANK = 600  # directions in which most of the descriptors lie
BLOCK = 10_000
QUERIES, TOGETHER = 32, (1, 32)
WARM = 2  # searches before one is timed: the system has then read the descriptors


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--tiles", type=int, default=1_000_000)
    parser.add_argument("--dimension", type=int, default=4096)
    parser.add_argument("--pca", type=int, default=512)
    parser.add_argument("--folder", default="benchmark_index", help="for the descriptors; it is removed afterwards")
    args = parser.parse_args()
    os.makedirs(args.folder)
    try:
        measure(args)
    finally:
        shutil.rmtree(args.folder)


def measure(args):
    path = os.path.join(args.folder, "float16.npy")
    begin = time.perf_counter()
    kept, queries, truth = synthetic(path, args.tiles, args.dimension)
    print(f"{args.tiles:,} tiles of {args.dimension:,} values, {os.path.getsize(path) / 1e9:.1f} GB, made in {since(begin)}")
    print(f"{'way':<34} {'build':>9} {'GB':>6} {'a query':>9} {'of 32':>9} {'R@1':>6} {'same as exact':>13} {'peak GB':>8}")
    exact = report_float32(os.path.join(args.folder, "float32.npy"), kept, queries, truth)
    report("exact, float16", 0, path, lambda rows: similarities(kept, rows), queries, truth, exact)
    begin = time.perf_counter()
    directions = fit_projection(kept, args.pca)
    short_path = os.path.join(args.folder, "pca.npy")
    short = np.lib.format.open_memmap(short_path, "w+", np.float16, (args.tiles, args.pca))
    for start in range(0, args.tiles, BLOCK):
        short[start : start + BLOCK] = np.asarray(kept[start : start + BLOCK], np.float32) @ directions
    seconds = time.perf_counter() - begin
    projected = queries @ directions
    report(f"PCA to {args.pca}, float16", seconds, short_path, lambda rows: similarities(short, rows), projected, truth, exact)
    index_path = os.path.join(args.folder, "approximate.faiss")
    begin = time.perf_counter()
    write_approximate(index_path, short)
    seconds, approximate = time.perf_counter() - begin, ApproximateSearch(index_path, short)
    report(f"PCA to {args.pca}, approximate", seconds, index_path, approximate.similarities, projected, truth, exact)


def synthetic(path, count, dimension):
    """(N, D) float16 in a file, (QUERIES, D) float32, and the row that each of these is a copy of."""
    rng = np.random.default_rng(0)
    rank = min(RANK, dimension)
    directions = np.linalg.qr(rng.standard_normal((dimension, rank)))[0].astype(np.float32).T
    kept = np.lib.format.open_memmap(path, "w+", np.float16, (count, dimension))
    truth = np.sort(rng.permutation(count)[:QUERIES])
    for start in range(0, count, BLOCK):
        size = min(BLOCK, count - start)
        centres = np.repeat(rng.standard_normal((-(-size // CLUSTER), rank), np.float32), CLUSTER, axis=0)[:size]
        rows = (centres + SPREAD * rng.standard_normal((size, rank), np.float32)) @ directions
        kept[start : start + size] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    kept.flush()
    rows = kept[truth].astype(np.float32)
    noise = rng.standard_normal(rows.shape, np.float32) / np.float32(np.sqrt(dimension))
    queries = rows + NOISE * noise  # float32, as the network's
    return kept, queries / np.linalg.norm(queries, axis=1, keepdims=True), truth


def report_float32(path, kept, queries, truth):
    """Print the row of the same descriptors in float32, whose file is gone afterwards; returns as `report`."""
    rows = np.lib.format.open_memmap(path, "w+", np.float32, kept.shape)
    for start in range(0, len(kept), BLOCK):
        rows[start : start + BLOCK] = kept[start : start + BLOCK]
    rows.flush()
    found = report("exact, float32", 0, path, lambda asked: similarities(rows, asked), queries, truth)
    os.unlink(path)  # with the last use of `rows` the system forgets it
    return found


def report(name, build, path, search, queries, truth, exact=None):
    """Print a row; returns the rows that were found first."""
    for _ in range(WARM):
        search(queries[:1, None])
    seconds, memory = [], Memory()
    for together in TOGETHER:
        begin = time.perf_counter()
        found, _ = search(queries[:together, None])
        seconds.append((time.perf_counter() - begin) / together)
    peak = memory.peak()
    first = closest(found, 1)[0][:, 0]
    same = "" if exact is None else f"{100 * np.mean(first == exact):.0f} %"
    print(
        f"{name:<34} {build:>7.0f} s {os.path.getsize(path) / 1e9:>6.1f} {seconds[0]:>7.2f} s {seconds[1]:>7.3f} s "
        f"{100 * np.mean(first == truth):>4.0f} % {same:>13} {peak:>8.1f}",
        flush=True,
    )
    return first


class Memory:
    """The most memory that the process has for itself from now on, looked at often."""

    def __init__(self):
        self._most, self._end = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self):
        while not self._end.wait(0.02):
            with open("/proc/self/status", encoding="ascii") as file:
                own = next(int(line.split()[1]) for line in file if line.startswith("RssAnon:"))
            self._most = max(self._most, own / 1e6)

    def peak(self):
        """Gigabytes."""
        self._end.set()
        self._thread.join()
        return self._most


def since(begin):
    return f"{time.perf_counter() - begin:.0f} s"


if __name__ == "__main__":
    main()
