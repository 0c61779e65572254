"""The parts of an epoch's loop: steps whose outcome is read one step late, times to save and to log, means to report."""

import collections
import time
import typing


class Outcome(typing.NamedTuple):
    """What a step gave.

    Attributes:
        number: the step's, in its epoch, from 1.
        loss: before the step's update.
        settled: whether no later step has begun, so the weights are those after this step.
    """

    number: int
    loss: float
    settled: bool


def outcomes(step, batches, done, begun):
    """Take a step for each batch, and yield its Outcome while the next one computes: the device never waits.

    Args:
        step: function of a batch that returns a loss, which need not be there yet.
        batches: iterable of what it takes.
        done: steps of the epoch that were taken before.
        begun: function of a step's number, called when it has begun; whether to wait for it before the next one.
    """
    pending = collections.deque()
    for number, batch in enumerate(batches, done + 1):
        pending.append((number, step(batch)))
        waits = begun(number)
        while len(pending) > (0 if waits else 1):
            begun_number, loss = pending.popleft()
            yield Outcome(begun_number, float(loss), not pending)


class SaveClock:
    """When to save within an epoch.

    Args:
        unit, every: "minutes" or "steps", and how many of them.
    """

    def __init__(self, unit, every):
        self._unit, self._every = unit, every
        self.saved()

    def is_due(self, number):
        """Whether to save after the epoch's step `number`."""
        if self._unit == "minutes":
            return time.monotonic() - self._since >= 60 * self._every
        return number % self._every == 0

    def saved(self):
        """Count from now on."""
        self._since = time.monotonic()


class Meter:
    """Means of steps since the last report.

    Args:
        batch_size: pairs of a step.
    """

    def __init__(self, batch_size):
        self._batch_size = batch_size
        self._begin()

    def _begin(self):
        self._losses, self._waited, self._began = [], 0.0, time.perf_counter()

    def timed(self, batches):
        """Yield the batches, and count the time that they are waited for."""
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            self._waited += time.perf_counter() - began
            if batch is None:
                return
            yield batch

    def add(self, loss):
        """Count a step."""
        self._losses.append(loss)

    def rates(self):
        """{"loss", "pairs/s", "input wait": share of the time}; then count from now on."""
        seconds, steps = time.perf_counter() - self._began, len(self._losses)
        rates = {
            "loss": sum(self._losses) / steps,
            "pairs/s": steps * self._batch_size / seconds,
            "input wait": self._waited / seconds,
        }
        self._begin()
        return rates
