"""Vectors of which only the first numbers are kept, `truncate_dim` of them: what an encoder records, and what is asked.

Any encoder has `width`, the numbers of a whole vector (None if unknown), and `truncate_dim` (None for all), which its
`embed` applies. Training with `loss=matryoshka` makes such vectors good ones.

Source: Kusupati et al. 2022, Matryoshka Representation Learning.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from simcse_lit.errors import UserError


class Truncating(Protocol):
    """An encoder whose vectors can be cut."""

    truncate_dim: int | None

    @property
    def width(self) -> int | None:
        """Numbers of a whole vector, if known."""


def recorded_truncation(section: Mapping[str, Any], width: int | None) -> int | None:
    """Return how many numbers of a vector an export keeps; None for all.

    Args:
        section: the section `simcse` of its configuration.
        width: numbers of a whole vector, if known.

    Raises:
        ValueError: its vectors cannot have so many.
    """
    size = section.get("truncate_dim")
    if size is not None and (not isinstance(size, int) or not 1 <= size <= (width or size)):
        raise ValueError(f"truncate_dim={size}, and its vectors have {width or 'no such'} numbers")
    return size


def truncate(encoder: Truncating, size: int | None, source: str) -> None:
    """Let an encoder keep only the first numbers of each vector.

    Args:
        encoder: the encoder.
        size: how many; None for as many as it records, or all.
        source: its name, for the message.

    Raises:
        UserError: its vectors have fewer numbers.
    """
    width = encoder.width
    if size is not None and (size < 1 or (width is not None and size > width)):
        most = "1 or more" if width is None else f"{width} or less"
        has = "" if width is None else f": vectors of {source} have {width} numbers"
        raise UserError(f"truncate_dim={size}{has}. Use truncate_dim={most}, or null for all.")
    kept = encoder.truncate_dim if size is None else size
    encoder.truncate_dim = None if kept == width else kept
