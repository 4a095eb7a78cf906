"""Analyses of an encoder on a set of sentence pairs: they take vectors and return numbers for JSON.

`conf/analyses/` lists them with their settings. The formulas are in `geometry.py`, and `reporting/run/figures.py` draws the
figures from the numbers alone.

Shapes: N unique sentences, P pairs, H hidden, R singular values, G grid points.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from simcse_lit.config.extension import build
from simcse_lit.errors import UserError
from simcse_lit.evaluation import geometry
from simcse_lit.evaluation.results import plain
from simcse_lit.evaluation.sts import STSTask
from simcse_lit.evaluation.task import Embed

# Points at which densities are evaluated, and bins of the histogram: the resolution of the figures.
GRID_G = np.linspace(-1, 1, 201)
BIN_EDGES = np.linspace(-1, 1, 101)


class Analysis(Protocol):
    """One analysis. Its `name` is its key in the results and the name of its files.

    Your own analysis may also have `draw(by_label, path)`. It draws the results of `compute`, by the label of each encoder,
    into the PNG file `path`.
    """

    name: ClassVar[str]

    def compute(self, task: STSTask, embed: Embed) -> dict[str, Any]:
        """Compute the numbers of one encoder.

        Args:
            task: the sentence pairs.
            embed: maps N sentences of the task to their vectors, (N, H) float32.

        Returns:
            Numbers by name. A value may also be a list of numbers or a group, which is a mapping of the same kind.
        """


def make_analyses(entries: Mapping[str, Mapping[str, Any]], taken: Collection[str] = ()) -> list[Analysis]:
    """Make the analyses of a configuration.

    Args:
        entries: `_target_` and arguments of each, by key.
        taken: names that an analysis may not have.

    Raises:
        UserError: an analysis cannot be made, or its name is missing, invalid or taken.
    """
    made: dict[str, Analysis] = {}
    for key, entry in entries.items():
        analysis = build(entry, f"analyses.{key}")
        name = getattr(analysis, "name", None)
        if not (isinstance(name, str) and re.fullmatch(r"\w[\w.-]*", name)) or not callable(
            getattr(analysis, "compute", None)
        ):
            raise UserError(
                f"analyses.{key}: {type(analysis).__name__} is not an analysis. It needs `name`, which can name a file,\n"
                "and `compute(task, embed)`, which returns numbers (docs/extending/analysis.md)."
            )
        if name in made or name in taken:
            raise UserError(f"analyses.{key}: the name {name} is taken. Give it another `name`.")
        made[name] = analysis
    return list(made.values())


def measure(analysis: Analysis, task: STSTask, embed: Embed) -> dict[str, Any]:
    """Run an analysis and convert its result to plain JSON values.

    Raises:
        UserError: it does not return a mapping of numbers by name.
    """
    found = analysis.compute(task, embed)
    if not isinstance(found, Mapping):
        raise UserError(
            f"analyses: {type(analysis).__name__}.compute returned {type(found).__name__}, and must return a dict: "
            '{"name": number}.'
        )
    return dict(plain(found))


def numbers(measured: Mapping[str, Any]) -> dict[str, float]:
    """Select the single numbers of a result, without lists. A number in a group is named `GROUP/NAME`."""
    found: dict[str, float] = {}
    for name, value in measured.items():
        if isinstance(value, Mapping):
            found |= {f"{name}/{inner}": number for inner, number in numbers(value).items()}
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found[name] = value
    return found


@dataclass(frozen=True)
class AlignmentUniformity:
    """How near positive pairs are, and how evenly the sentences spread over the sphere.

    Args:
        positives_above: pairs with a gold score strictly above it are positives; the paper uses 4.
        alpha: power of the distance in alignment.
        t: sharpness of the kernel in uniformity.

    Source: SimCSE, equations 2 and 3, Figures 2 and 3.
    """

    name: ClassVar[str] = "alignment_uniformity"
    positives_above: float
    alpha: float
    t: float

    def compute(self, task: STSTask, embed: Embed) -> dict[str, Any]:
        """Compute alignment over the positive pairs, and uniformity over all pairs of unique sentences.

        Returns:
            `alignment` (None without a positive pair), `uniformity` (nats), `pairs` (number of positive pairs) and
            `sentences` (number of unique sentences).
        """
        positives = [pair for pair, gold in zip(task.pairs, task.gold, strict=True) if gold > self.positives_above]
        aligned = None
        if positives:
            aligned = float(geometry.alignment(*_unit_pairs(positives, embed), alpha=self.alpha))
        unit_NH = _unit_sentences(task, embed)
        return {
            "alignment": aligned,
            "uniformity": float(geometry.uniformity(unit_NH.float(), t=self.t)),  # exact to 1e-6, in half the time
            "pairs": len(positives),
            "sentences": len(unit_NH),
        }


@dataclass(frozen=True)
class Density:
    """How the cosine similarities of pairs are distributed in each group of gold scores.

    Args:
        edges: ascending gold scores between which the groups lie. A score on an edge belongs to the lower group; the lowest
            edge belongs to the first group. Scores outside of the edges belong to no group.

    Source: SimCSE, Figure G.1.
    """

    name: ClassVar[str] = "density"
    edges: Sequence[float]

    def compute(self, task: STSTask, embed: Embed) -> dict[str, Any]:
        """Compute the distribution of each group.

        Returns:
            `grid`, the cosines at which the curves are evaluated (G,), and `groups` in the order of the edges. A group has
            `above` and `up_to` (gold scores), `pairs` (number), `mean` and `std` of the cosines (None without pairs), and
            `density`, the curve (G,).
        """
        first, second = zip(*task.pairs, strict=True)
        cosine_P = geometry.cosines(embed(first), embed(second)).numpy()
        groups = []
        for place, (above, up_to) in enumerate(zip(self.edges[:-1], self.edges[1:], strict=True)):
            reached = task.gold >= above if place == 0 else task.gold > above
            inside = cosine_P[reached & (task.gold <= up_to)]
            groups.append(
                {
                    "above": float(above),
                    "up_to": float(up_to),
                    "pairs": len(inside),
                    "mean": float(inside.mean()) if len(inside) else None,
                    "std": float(inside.std()) if len(inside) else None,
                    "density": _kernel_density(inside).tolist(),
                }
            )
        return {"grid": GRID_G.tolist(), "groups": groups}


@dataclass(frozen=True)
class Spectrum:
    """How much of the space the sentences use: singular values of the matrix of unit vectors. Source: SimCSE, Figure F.1."""

    name: ClassVar[str] = "spectrum"

    def compute(self, task: STSTask, embed: Embed) -> dict[str, Any]:
        """Compute the singular values over the unique sentences of the task.

        Returns:
            `singular_values` divided by the largest, descending (R,), their `effective_rank`, and `sentences` (number).
        """
        unit_NH = _unit_sentences(task, embed)
        singular_R = geometry.singular_values(unit_NH)
        return {
            "singular_values": singular_R.tolist(),
            "effective_rank": float(geometry.effective_rank(singular_R)),
            "sentences": len(unit_NH),
        }


@dataclass(frozen=True)
class Anisotropy:
    """How similar unrelated sentences are: cosines of random pairs.

    Args:
        pairs: number of pairs to draw.
        seed: of the draws.

    Source: Ethayarajh 2019; SimCSE, section 5.
    """

    name: ClassVar[str] = "anisotropy"
    pairs: int
    seed: int

    def compute(self, task: STSTask, embed: Embed) -> dict[str, Any]:
        """Compute the cosines of random pairs of different sentences, drawn from the unique sentences of the task.

        Returns:
            `mean_cosine` and `std_cosine` over the pairs, `pairs` (number), and `histogram`, with the `counts` of the bins
            and their `edges`.
        """
        generator = torch.Generator().manual_seed(self.seed)
        cosine_P = geometry.random_pair_cosines(_unit_sentences(task, embed), self.pairs, generator).numpy()
        # Rounding takes the cosine of equal vectors past 1, out of the last bin.
        counts, _ = np.histogram(cosine_P.clip(-1, 1), BIN_EDGES)
        return {
            "mean_cosine": float(cosine_P.mean()),
            "std_cosine": float(cosine_P.std()),
            "pairs": self.pairs,
            "histogram": {"counts": counts.tolist(), "edges": BIN_EDGES.tolist()},
        }


def _unit_sentences(task: STSTask, embed: Embed) -> Tensor:
    """Compute the unit vectors of the task's unique sentences, (N, H) in float64. A vector of length zero stays zero.

    Raises:
        UserError: there are fewer than two unique sentences, or every vector is zero.
    """
    sentences = list(dict.fromkeys(task.sentences()))
    if len(sentences) < 2:
        raise UserError(f"analyses: {task.name} has one sentence only. Analyses need two that differ. Choose another set.")
    vectors_NH = embed(sentences).double()
    if not vectors_NH.any():
        raise UserError(f"analyses: the encoder gives all {len(sentences):,} sentences of {task.name} a zero vector.")
    return F.normalize(vectors_NH, dim=-1)


def _unit_pairs(pairs: Sequence[tuple[str, str]], embed: Embed) -> tuple[Tensor, Tensor]:
    """Compute the unit vectors of the first and the second sentences of pairs, (P, H) each, in float64."""
    first, second = zip(*pairs, strict=True)
    return F.normalize(embed(first).double(), dim=-1), F.normalize(embed(second).double(), dim=-1)


def _kernel_density(cosine_P: np.ndarray) -> np.ndarray:
    """Compute the Gaussian kernel density on the grid, (G,). It is zero without pairs.

    The bandwidth is Scott's, but at least one step of the grid, so that one pair or equal cosines still show as a peak.
    """
    if not len(cosine_P):
        return np.zeros_like(GRID_G)
    bandwidth = max(cosine_P.std() * len(cosine_P) ** -0.2, GRID_G[1] - GRID_G[0])
    kernel_GP = np.exp(-0.5 * ((GRID_G[:, None] - cosine_P) / bandwidth) ** 2)
    density_G: np.ndarray = kernel_GP.mean(1) / (bandwidth * np.sqrt(2 * np.pi))
    return density_G
