"""Seeds that are made from others, so that every random draw has a name: (seed, epoch) or (seed, step, rank)."""

import numpy as np


def derived_seed(*parts: int) -> int:
    """A 64-bit seed for torch; any change of any part gives an unrelated one."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0])
