"""How sure a score is: bootstrap over the pairs of an STS set, the paired bootstrap of two encoders, spread and tests over
seeds.

Shapes: P pairs, S resamples.
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata, ttest_ind

BLOCK = 100  # resamples ranked at once; bounds memory


def resampled_spearman(cosine_P: np.ndarray, gold_P: np.ndarray, *, samples: int, seed: int) -> np.ndarray:
    """Spearman x 100 of `samples` resamples of the pairs, with replacement.

    Two encoders on the same set with the same seed get the same resamples, so that their difference is paired.

    Args:
        cosine_P: similarities, (P,).
        gold_P: human scores, (P,).
        samples: how many.
        seed: of the resamples.

    Returns:
        (S,).

    Source: Efron and Tibshirani 1993, chapter 6; Koehn 2004 for the paired form.
    """
    generator = np.random.default_rng(seed)
    pairs = len(gold_P)
    found = []
    for start in range(0, samples, BLOCK):
        drawn_SP = generator.integers(pairs, size=(min(BLOCK, samples - start), pairs))
        ranks = [rankdata(values_P[drawn_SP], axis=1) for values_P in (cosine_P, gold_P)]
        first_SP, second_SP = (rank_SP - rank_SP.mean(1, keepdims=True) for rank_SP in ranks)
        scale_S = np.sqrt((first_SP**2).sum(1) * (second_SP**2).sum(1))
        with np.errstate(invalid="ignore", divide="ignore"):  # a resample of one pair alone has no correlation
            found.append((first_SP * second_SP).sum(1) / scale_S)
    return 100 * np.concatenate(found)


def interval(distribution_S: np.ndarray, confidence: float) -> tuple[float, float]:
    """The percentile interval that holds a share `confidence` of the resamples."""
    tail = 50 * (1 - confidence)
    low, high = np.nanpercentile(distribution_S, [tail, 100 - tail])
    return float(low), float(high)


def p_value(differences_S: np.ndarray) -> float:
    """Two-sided p-value of "no difference": twice the share of resamples on the far side of 0, at least 2 / (S + 1)."""
    differences_S = differences_S[~np.isnan(differences_S)]  # of resamples without a correlation
    samples = len(differences_S)
    below, above = int((differences_S <= 0).sum()), int((differences_S >= 0).sum())
    return min(1.0, 2 * (1 + min(below, above)) / (samples + 1))


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (n - 1) over seeds, of at least two."""
    return float(np.mean(values)), float(np.std(values, ddof=1))


def welch(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Two-sided p-value of "equal means" by Welch's t test, which lets the two spread differently.

    Returns:
        None where there is no test: fewer than two values on a side, or none that varies.

    Source: Welch 1947.
    """
    if min(len(first), len(second)) < 2 or (np.ptp(first) == 0 and np.ptp(second) == 0):
        return None
    p = float(ttest_ind(first, second, equal_var=False).pvalue)
    return p if p == p else None


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values corrected for how many there are, so that the chance of any false alarm stays below the level.

    Source: Holm 1979.
    """
    corrected = list(p_values)
    highest = 0.0
    for place, index in enumerate(np.argsort(p_values, kind="stable")):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[index]))
        corrected[index] = highest
    return corrected
