"""Derives seeds from named parts, so that every random draw is determined: (seed, epoch) or (seed, step, rank)."""

import numpy as np


def derived_seed(*parts: int) -> int:
    """Return a 64-bit seed for torch; changing any part gives an unrelated seed."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0])
