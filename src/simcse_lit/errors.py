"""The one exception whose message is meant for a person, and the hint that such messages end with."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """Something that the user can mend; shown without a stack, and the command exits with 1.

    The message says what was wrong, where (config key, or file and line) and what to do, in one screen.
    """


def did_you_mean(value: str, valid: Iterable[str]) -> str:
    """' Did you mean X?' for the nearest of the valid values, or nothing."""
    near = get_close_matches(value, list(valid), n=1, cutoff=0.5)
    return f" Did you mean {near[0]}?" if near else ""
