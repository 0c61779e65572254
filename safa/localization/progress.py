"""How far a long run is: a bar in a terminal, and a line a minute where nobody watches."""

import sys
import time

from tqdm import tqdm

SECONDS = 60.0  # between lines


class Progress(tqdm):
    """A tqdm bar; where standard error is not a terminal, a line a minute with rate and the time that is left."""

    def __init__(self, total, unit):
        self._shows = sys.stderr.isatty()
        self._began = self._said = time.monotonic()
        self._done, self._all, self._unit = 0, total, unit
        super().__init__(total=total, desc=unit, leave=False, disable=not self._shows)

    def update(self, n=1):
        super().update(n)
        self._done += n
        now = time.monotonic()
        if not self._shows and now - self._said >= SECONDS and self._done < self._all:
            self._said, rate = now, self._done / (now - self._began)
            left = (self._all - self._done) / rate / 60
            line = f"{self._done:,} of {self._all:,} {self._unit}, {rate:.3g} a second, {left:.0f} minutes left"
            print(line, file=sys.stderr, flush=True)
