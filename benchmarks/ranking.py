"""How long the ranks of all queries take, and how much memory beyond the descriptors, at CVUSA's size by default.

Run from the repository's root: python -m benchmarks.ranking (CVACT_test: --pairs 92802 --near; --queries 720: of so many
queries only, whose time times their share is that of all).
"""

import argparse
import gc
import time

import numpy as np

from safa.datasets.positions import within
from safa.retrieval.search import products_with, search

METRES_APART = 4.0  # mean distance of a place to its neighbour, so some lie within 5 m


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--pairs", type=int, default=8884, help="queries, and as many references")
    parser.add_argument("--queries", type=int, help="search the first of the queries only (default: all)")
    parser.add_argument("--dimension", type=int, default=4096, help="values of a descriptor")
    parser.add_argument("--top_k", type=int, default=1, help="winners to name for each query")
    parser.add_argument("--near", action="store_true", help="also count matches within 5 m of the truth, as on CVACT_test")
    args = parser.parse_args()
    queries = min(args.queries or args.pairs, args.pairs)
    random = np.random.default_rng(0)
    sat, grd = (np.empty((count, args.dimension), np.float32) for count in (args.pairs, queries))
    for start in range(0, args.pairs, 1000):
        rows = slice(start, start + 1000)
        sat[rows] = random.standard_normal(sat[rows].shape, np.float32)
        seen = grd[rows]
        seen[:] = sat[rows][: len(seen)] + 10 * random.standard_normal(seen.shape, np.float32)
        for descriptors in (sat[rows], seen):
            descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    side = METRES_APART * args.pairs**0.5
    near = within(random.uniform(0, side, (args.pairs, 2)), 5.0) if args.near else None
    gc.collect()
    before = _forget_peak()
    begin, cpu = time.perf_counter(), time.process_time()
    search(sat, grd, np.arange(queries), near and near[:queries], args.top_k)
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    gigabytes = (_status("VmHWM") - before) / 1e6
    begin = time.perf_counter()
    products_with(sat, grd)
    alone = time.perf_counter() - begin
    print(
        f"{queries:,} x {args.pairs:,} at {args.dimension:,}{', with those within 5 m' if args.near else ''}: "
        f"{seconds:.1f} s ({cpu:.1f} s of CPU), matrix products alone {alone / seconds:.0%} of that; at most "
        f"{gigabytes:.2f} GB beyond the descriptors"
    )


def _forget_peak():
    """Begin to count the largest memory from now on (Linux); kilobytes in use now."""
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")
    return _status("VmRSS")


def _status(name):
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(f"{name}:"))


if __name__ == "__main__":
    main()
