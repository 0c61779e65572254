"""python -m toy_town: see `toy_town.dataset`."""

from safa.runtime.errors import reported
from toy_town.dataset import main

if __name__ == "__main__":
    with reported():
        main()
