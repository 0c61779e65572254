"""How far long work has come: a bar on a terminal; elsewhere, in a log for instance, a line a minute."""

import datetime
import io
import sys

from tqdm import tqdm

LINE_SECONDS = 60.0  # between lines; work that ends sooner prints none


class ProgressBar(tqdm):
    """tqdm's bar if standard error is a terminal; otherwise lines there with what is done, the rate and the expected end.

    Args:
        items: iterable of the items, or None where `update` counts them.
        title: of the work.
        total, initial: number of items, and how many of them were finished before.
        unit: what the items are, in the plural.
        quiet: show nothing, in processes that are not the chief's.
    """

    def __init__(self, items, title, total, unit, initial=0, quiet=False):
        self._prints_lines = not sys.stderr.isatty()
        # miniters 1: the time is looked at after every item. The file takes the carriage return with which tqdm ends.
        lines = {"file": io.StringIO(), "mininterval": LINE_SECONDS, "miniters": 1} if self._prints_lines else {}
        super().__init__(items, title, total, unit=unit, initial=initial, disable=quiet, leave=False, smoothing=0.1, **lines)

    def display(self, msg=None, pos=None):
        """Draw the bar, or print the line; called by tqdm when it is time, at the beginning and at the end."""
        if not self._prints_lines:
            return super().display(msg, pos)
        done, seconds = self.n - self.initial, self.format_dict["elapsed"]
        if done > 0 and msg is None:
            end = datetime.datetime.now() + datetime.timedelta(seconds=seconds / done * (self.total - self.n))
            print(
                f"{self.desc}: {self.n:,} of {self.total:,} {self.unit}, {done / seconds:,.2f} {self.unit}/s, ends about "
                f"{end:%a %H:%M}" + f", {self.postfix}" * bool(self.postfix),
                file=sys.stderr,
                flush=True,
            )
        return True
