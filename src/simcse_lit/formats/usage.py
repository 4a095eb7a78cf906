"""What the function of an export format returns: how its folder is used."""

from typing import NamedTuple


class Usage(NamedTuple):
    """How the folder of an export is used, for its model card.

    Args:
        library: the Hub's name of the library that loads it.
        code: Python that loads it from the folder "." and computes `vectors` of `sentences`.
    """

    library: str
    code: str
