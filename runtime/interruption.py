"""Signals that ask a run to end (Ctrl-C, SIGTERM of a preempted machine), answered after it has saved."""

from runtime.errors import Stopped

import contextlib
import signal
import sys
import threading

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """A context in which the first signal is noted, and a second one ends the run at once.

    Attributes:
        signal: the signal that came, or None.
    """

    def __init__(self):
        self.signal = None
        self._at_once = False
        self._before = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def at_once(self):
        """A part of the run that may be left anywhere: here a signal raises `errors.Stopped`."""
        if self.signal is not None:
            raise Stopped(self.signal)
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    def _note(self, number, _):
        again = self.signal is not None
        self.signal = number
        if again or self._at_once:
            raise Stopped(number)
        print(
            f"\n{signal.Signals(number).name}: saving after this step; a second one ends the run at once",
            file=sys.stderr,
            flush=True,
        )
