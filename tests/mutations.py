"""Seeded damage to bytes, as disks, downloads and interrupted copies do it."""

import numpy as np

KINDS = "flip", "byte", "zeros", "noise", "cut", "drop", "insert"


def mutated(content, number):
    """The `number`-th damaged version of some bytes: (kind, bytes)."""
    random = np.random.default_rng(number)
    kind = KINDS[number % len(KINDS)]
    damaged = bytearray(content)
    start = int(random.integers(1, len(content) - 1))
    length = int(random.integers(16, 256))
    if kind == "flip":
        damaged[start] ^= 1 << int(random.integers(8))
    elif kind == "byte":
        damaged[start] = int(random.integers(256))
    elif kind == "zeros":
        damaged[start : start + length] = bytes(len(damaged[start : start + length]))
    elif kind == "noise":
        damaged[start : start + length] = random.bytes(len(damaged[start : start + length]))
    elif kind == "cut":
        del damaged[start:]
    elif kind == "drop":
        del damaged[start : start + length]
    else:
        damaged[start:start] = random.bytes(length)
    return kind, bytes(damaged)
