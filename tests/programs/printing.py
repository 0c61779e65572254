"""Prints lines inside `reported`. Arguments: their number, and how it ends: "at_once", "exit" or "more"."""

import sys

from safa.runtime.errors import reported

with reported():
    for number in range(int(sys.argv[1])):
        print("line", number)
    if sys.argv[2] == "exit":
        sys.exit(0)
    if sys.argv[2] == "more":
        print("more", flush=True)
