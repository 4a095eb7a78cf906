"""Judge the claims of claims.yaml from the rows of the miniatures.

The difference of two settings is paired by seed, since runs with one seed share their text, order and new weights.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from scipy import stats

from experiments.rows import Row
from simcse_lit.evaluation.statistics import holm

CLAIMS = Path(__file__).parent / "claims.yaml"
LEVEL = 0.05
SEEDS = 5  # fewer pairs than this stay undecided
AS_IN_PAPER, AGAINST, UNDECIDED, NOT_RUN = "as in the paper", "against it", "undecided", "not run"
UNTRAINED = "untrained"


@dataclass(frozen=True)
class Claim:
    """A claim of the paper as a comparison of two settings; claims.yaml explains the fields."""

    claim: str
    source: str
    sweep: str
    metric: str
    expected: str
    experiment: str
    first: str
    second: str
    second_experiment: str = ""
    again: bool = False

    @property
    def sides(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """Preset and change of the two settings."""
        return (self.experiment, self.first), (self.second_experiment or self.experiment, self.second)


@dataclass(frozen=True)
class Verdict:
    """A claim and what the rows say to it.

    Args:
        claim: the claim.
        differences: first minus second by seed.
        p: two-sided p-value of Student's t test that their mean is 0; None with fewer than two, or if all are equal.
        p_holm: the same, corrected for all claims with a p-value.
    """

    claim: Claim
    differences: Mapping[int, float]
    p: float | None
    p_holm: float | None

    @property
    def mean(self) -> float:
        """Mean of the differences."""
        return float(np.mean(list(self.differences.values())))

    @property
    def interval(self) -> tuple[float, float]:
        """Its 95 % confidence interval by Student's t."""
        half = float(stats.t.ppf(1 - LEVEL / 2, len(self.differences) - 1)) * _error(self.differences)
        return self.mean - half, self.mean + half

    @property
    def word(self) -> str:
        """The verdict. It needs SEEDS pairs and a corrected p-value below LEVEL."""
        if not self.differences:
            return NOT_RUN
        if self.p_holm is None or len(self.differences) < SEEDS or self.p_holm >= LEVEL:
            return UNDECIDED
        return AS_IN_PAPER if (self.mean > 0) == (self.claim.expected == "above") else AGAINST


def read_claims(path: Path = CLAIMS) -> list[Claim]:
    """Read claims.yaml."""
    return [Claim(**entry) for entry in yaml.safe_load(path.read_text(encoding="utf-8"))["claims"]]


def judge(claims: Sequence[Claim], rows: Sequence[Row], again: Sequence[Row] | None = None) -> list[Verdict]:
    """Judge every claim; p-values are corrected for all of them together.

    Args:
        claims: the claims.
        rows: what was run.
        again: what was run anew; if given, the claims marked `again` are judged by these rows alone.
    """
    differences = [_paired(claim, again if claim.again and again is not None else rows) for claim in claims]
    p_values = [_p(one) for one in differences]
    corrected = iter(holm([p for p in p_values if p is not None]))
    return [
        Verdict(claim, one, p, None if p is None else next(corrected))
        for claim, one, p in zip(claims, differences, p_values, strict=True)
    ]


def scores(rows: Sequence[Row], setting: tuple[str, str], metric: str) -> dict[int, float]:
    """Return a score at the end of training by seed, or, for the change `untrained`, of the untrained encoder."""
    experiment, changed = setting
    if changed == UNTRAINED:
        return {
            row.seed: row.scores[metric] for row in rows if (row.experiment, row.changed, row.step) == (experiment, "", 0)
        }
    own = [row for row in rows if row.setting == setting and row.is_last and metric in row.scores]
    return {row.seed: row.scores[metric] for row in sorted(own, key=lambda row: row.seed)}


def _paired(claim: Claim, rows: Sequence[Row]) -> dict[int, float]:
    first, second = (scores(rows, side, claim.metric) for side in claim.sides)
    if claim.second == UNTRAINED and second:  # the encoder before training is the same for every seed
        second = dict.fromkeys(first, next(iter(second.values())))
    return {seed: first[seed] - second[seed] for seed in first if seed in second}


def _p(differences: Mapping[int, float]) -> float | None:
    if len(differences) < 2 or _error(differences) == 0:
        return None
    return float(stats.ttest_1samp(list(differences.values()), 0).pvalue)


def _error(differences: Mapping[int, float]) -> float:
    values = list(differences.values())
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
