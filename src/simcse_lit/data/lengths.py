"""Cuts sentences of many lengths into groups that are each padded to their longest, at the least cost.

Used for the chunks of a training step (`training/chunking.py`) and for batches of sentences to encode (`collation.py`).
"""

from collections import Counter
from collections.abc import Sequence

# What one more pass of the encoder costs, in tokens, where only sentences are encoded. benchmarks/levers.py compares values
# for a training step; a token budget bounds the cost on other machines.
OVERHEAD = 96


def length_chunks(lengths: Sequence[int], overhead: int) -> list[int]:
    """The cheapest cut of sentences, sorted by falling length, into chunks that are each padded to their longest.

    The cost of a chunk is its sentences times its longest length, plus `overhead`. The optimum is exact: a cut never pays
    between two sentences of one length, so dynamic programming runs over the distinct lengths.

    Args:
        lengths: tokens of each sentence, in any order, at least one.
        overhead: what one more pass of the encoder costs, in tokens.

    Returns:
        Sizes of the chunks, longest sentences first.
    """
    counts = sorted(Counter(lengths).items(), reverse=True)
    best: list[tuple[int, int]] = [(0, 0)]  # cost of the first i lengths, and where their last chunk starts
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
