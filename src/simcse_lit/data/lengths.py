"""Splits sentences of many lengths into groups that are each padded to their longest, at the lowest cost.

Used for the chunks of a training step (`training/chunking.py`) and for batches of sentences to encode (`collation.py`).
"""

from collections import Counter
from collections.abc import Sequence

# Cost of one more encoder pass, in tokens, when only encoding. benchmarks/levers.py compares values for a training step.
OVERHEAD = 96


def length_chunks(lengths: Sequence[int], overhead: int) -> list[int]:
    """Find the cheapest split of sentences, sorted by falling length, into chunks that are each padded to their longest.

    The cost of a chunk is its number of sentences times its longest length, plus `overhead`. The result is optimal:
    splitting between sentences of equal length never helps, so dynamic programming over the distinct lengths finds it.

    Args:
        lengths: tokens of each sentence, in any order, at least one.
        overhead: cost of one more encoder pass, in tokens.

    Returns:
        Sizes of the chunks, longest sentences first.
    """
    counts = sorted(Counter(lengths).items(), reverse=True)
    best: list[tuple[int, int]] = [(0, 0)]  # cost of the first i lengths, and start of their last chunk
    for end in range(1, len(counts) + 1):
        options = []
        size = 0
        for start in range(end - 1, -1, -1):
            size += counts[start][1]
            options.append((best[start][0] + size * counts[start][0] + overhead, start))
        best.append(min(options))
    sizes = []
    end = len(counts)
    while end:
        start = best[end][1]
        sizes.append(sum(count for _, count in counts[start:end]))
        end = start
    return sizes[::-1]
