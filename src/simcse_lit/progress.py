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
        self._first_after = options.setdefault("delay", 0.5)
        self._drawn = False
        in_log = {"bar_format": "{desc} {n_fmt}/{total_fmt}{unit}, {remaining} left"} if self.in_log else {}
        super().__init__(*arguments, **{"ncols": 78, "leave": False, **options, **in_log})

    def display(self, msg: str | None = None, pos: int | None = None) -> Any:
        """Draw the bar, or write a line if the last is a minute old. Return whether the bar is drawn."""
        now = time.monotonic()
        if not self.in_log:
            # tqdm delays the first update, but not a new description.
            if self._drawn or now >= self._since + self._first_after:
                self._drawn = True
                return super().display(msg, pos)
        elif now - self._since >= INTERVAL_S:
            self._since = now
            self.fp.write(f"{self}\n")
            self.fp.flush()
        return False

    def clear(self, nolock: bool = False) -> None:
        """Remove the bar from the terminal."""
        if not self.in_log:
            super().clear(nolock)

    def close(self) -> None:
        """Remove the bar."""
        # tqdm removes what an update has drawn. A new description may have drawn the bar too, and a log has none.
        self.last_print_t = float("inf" if self._drawn else "-inf")
        super().close()
