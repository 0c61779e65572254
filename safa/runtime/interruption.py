"""Signals that ask a run to end (Ctrl-C, SIGTERM of a preempted machine, a closed terminal), answered after it has saved."""

import contextlib
import os
import select
import signal
import stat
import sys
import threading

from safa.runtime.errors import Stopped, print_nowhere

HANGUP = [] if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [signal.SIGHUP]  # a closed terminal, but for `nohup`
SIGNALS = [signal.SIGINT, signal.SIGTERM, *HANGUP]
READER_MILLISECONDS = 100  # for which a signal waits to see whether who reads our lines ends too


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
        # Writing would fail where nobody reads: on a closed terminal, or into a `tee` that the same Ctrl-C ends at this moment.
        poll = select.poll()
        for stream in (1, 2):
            poll.register(stream, 0)
            if number == signal.SIGHUP and stat.S_ISCHR(os.fstat(stream).st_mode):
                print_nowhere(stream)
        print_nowhere(*(stream for stream, _ in poll.poll(READER_MILLISECONDS)))
        if again or self._at_once:
            raise Stopped(number)
        name = signal.Signals(number).name
        print(f"\n{name}: saving after this step; a second one ends the run at once", file=sys.stderr, flush=True)


class StopVote:
    """How the processes of a run agree on the step after which all of them end.

    Each casts a vote with every step: whether it was asked to end. The sum reaches every process, and all act on it one
    step later, even one that already knows; otherwise the others would wait for it forever.

    Args:
        request: StopRequest of this process.
        sum_over_processes: `Distribution.sum_over_processes`.
    """

    def __init__(self, request, sum_over_processes):
        self._request, self._sum = request, sum_over_processes
        self._before = self._latest = 0.0

    def cast(self):
        """Vote; to be called once in every step, by all processes."""
        self._before, self._latest = self._latest, self._sum(float(self._request.signal is not None))

    def passed(self, last):
        """Whether any process was asked to end: in the step before the latest one, or in `last`, an epoch's, itself."""
        return float(self._before) > 0 or last and float(self._latest) > 0
