"""How the folder of an export is used: what the function of an export format returns."""

from typing import NamedTuple


class Usage(NamedTuple):
    """How the folder of an export is used, for its model card.

    Args:
        library: the name on the Hub of the library that loads the folder.
        code: Python that loads it from the folder `.` and computes `vectors` from `sentences`.
    """

    library: str
    code: str
