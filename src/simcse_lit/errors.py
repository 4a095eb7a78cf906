"""The exception whose message is for the user, and the hint that such messages end with."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """An error that the user can fix. It is shown without a stack trace, and the command exits with 1.

    The message says what is wrong, where (configuration key, or file and line) and what to do, on one screen.
    """


def did_you_mean(value: str, valid: Iterable[str]) -> str:
    """Return ' Did you mean X?' for the nearest valid value, or an empty text."""
    near = get_close_matches(value, list(valid), n=1, cutoff=0.5)
    return f" Did you mean {near[0]}?" if near else ""
