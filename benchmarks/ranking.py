"""How long the ranks of all queries take, and how much memory beyond the descriptors, at CVUSA's size by default.

Run from the repository's root: python -m benchmarks.ranking
"""

import argparse
import resource
import time

import numpy as np

from retrieval.search import search


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--pairs", type=int, default=8884, help="queries, and as many references")
    parser.add_argument("--dimension", type=int, default=4096, help="values of a descriptor")
    parser.add_argument("--top_k", type=int, default=0, help="winners to name for each query")
    args = parser.parse_args()
    random = np.random.default_rng(0)
    sat = random.standard_normal((args.pairs, args.dimension), np.float32)
    grd = sat + random.standard_normal(sat.shape, np.float32)
    for descriptors in (sat, grd):
        descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.perf_counter()
    search(sat, grd, np.arange(args.pairs), top_k=args.top_k)
    seconds = time.perf_counter() - begin
    product = time.perf_counter()
    grd[:1024] @ sat.T
    share = (time.perf_counter() - product) * args.pairs / 1024 / seconds
    gigabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e6
    print(
        f"{args.pairs:,} x {args.pairs:,} at {args.dimension:,}: {seconds:.1f} s, of which matrix products "
        f"{share:.0%}; at most {gigabytes:.2f} GB beyond the descriptors"
    )


if __name__ == "__main__":
    main()
