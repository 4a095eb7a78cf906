"""Progress of long work: a bar where a line can be drawn again, and whole lines in a log."""

import sys
import time
from typing import Any, TextIO

from tqdm import tqdm

INTERVAL_S = 60.0  # between two lines in a log


def redraws(stream: TextIO) -> bool:
    """Whether a carriage return draws the last line anew: on a terminal and in a notebook, but not in a file or a pipe."""
    return stream.isatty() or type(stream).__module__.startswith("ipykernel")


class Bar(tqdm):  # type: ignore[type-arg]  # of anything
    """A bar of at most 78 columns, drawn from the first half second on and removed when the work is done.

    In a log it is a line a minute instead, from the first minute on. The caller logs what comes of the work. The
    environment variable TQDM_DISABLE=1 switches all bars off.

    Args:
        arguments: of `tqdm`.
        options: of `tqdm`.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.in_log = not redraws(options.get("file") or sys.stderr)
        self._since = time.monotonic()  # the start; in a log, the time of the last line
        self._drawn = False
        in_log = {"bar_format": "{desc} {n_fmt}/{total_fmt}{unit}, {remaining} left"} if self.in_log else {}
        super().__init__(*arguments, **{"ncols": 78, "leave": False, "delay": 0.5, **options, **in_log})

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Draw the bar, or write a line if the last is a minute old."""
        now = time.monotonic()
        if not self.in_log:
            # tqdm heeds the delay of updates alone, not that of a new description.
            if not self._drawn and now < self._since + self.delay:
                return True
            self._drawn = True
            return bool(super().display(msg, pos))
        if now - self._since >= INTERVAL_S:
            self._since = now
            self.fp.write(f"{self}\n")
            self.fp.flush()
        return True

    def clear(self, nolock: bool = False) -> None:
        """Remove the bar from the terminal."""
        if not self.in_log:
            super().clear(nolock)

    def close(self) -> None:
        """Remove the bar."""
        if not getattr(self, "disable", True):
            if self.in_log:
                self.disable = True
                self._decr_instances(self)
            elif self._drawn:
                self.last_print_t = self._time()  # or what a new description drew would stay
        super().close()
