"""Statistics of scores: the bootstrap over the pairs of an STS set, and spread and tests over seeds.

`results.py` applies them to encoders, and `reporting/sweep/comparison.py` to the runs of a sweep.

Shapes: P pairs, S resamples.
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata, ttest_ind

BLOCK = 100  # resamples ranked together; bounds memory


def resampled_spearman(cosine_P: np.ndarray, gold_P: np.ndarray, *, samples: int, seed: int) -> np.ndarray:
    """Compute Spearman x 100 of resamples of the pairs, drawn with replacement.

    Two encoders on the same set with the same seed get the same resamples, so their differences are paired.

    Args:
        cosine_P: similarities, (P,).
        gold_P: human scores, (P,).
        samples: number of resamples, S.
        seed: of the draws.

    Returns:
        Spearman x 100 of each resample, (S,). NaN where a resample has no correlation.

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
        with np.errstate(invalid="ignore", divide="ignore"):  # a resample that holds the same pair only has no correlation
            found.append((first_SP * second_SP).sum(1) / scale_S)
    return 100 * np.concatenate(found)


def interval(distribution_S: np.ndarray, confidence: float) -> tuple[float, float]:
    """Compute the percentile interval that holds the share `confidence` of the resamples, as (low, high)."""
    tail = 50 * (1 - confidence)
    low, high = np.nanpercentile(distribution_S, [tail, 100 - tail])
    return float(low), float(high)


def p_value(differences_S: np.ndarray) -> float:
    """Compute the two-sided p-value of "no difference".

    It is twice the smaller of the shares of resamples below and above 0, and at least 2 / (S + 1).

    Args:
        differences_S: second score minus first, of each resample, (S,).
    """
    differences_S = differences_S[~np.isnan(differences_S)]  # NaN: resamples without a correlation
    samples = len(differences_S)
    below, above = int((differences_S <= 0).sum()), int((differences_S >= 0).sum())
    return min(1.0, 2 * (1 + min(below, above)) / (samples + 1))


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Compute mean and sample standard deviation (n - 1) of at least two values."""
    return float(np.mean(values)), float(np.std(values, ddof=1))


def welch(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Compute the two-sided p-value of "equal means" by Welch's t test, which allows different variances.

    Returns:
        The p-value, or None if there is no test: one side has fewer than two values, or no value differs.

    Source: Welch 1947.
    """
    if min(len(first), len(second)) < 2 or (np.ptp(first) == 0 and np.ptp(second) == 0):
        return None
    p = float(ttest_ind(first, second, equal_var=False).pvalue)
    return p if p == p else None


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for multiple tests, so that the probability of any false alarm stays below the level.

    Returns:
        The corrected p-values, in the order given.

    Source: Holm 1979.
    """
    corrected = list(p_values)
    highest = 0.0
    for place, index in enumerate(np.argsort(p_values, kind="stable")):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[index]))
        corrected[index] = highest
    return corrected
