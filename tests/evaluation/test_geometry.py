"""Alignment, uniformity, spectrum and anisotropy against slow formulas, and the analyses that are made of them."""

import json
import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from scipy.stats import gaussian_kde
from torch import Tensor

from simcse_lit.config import CONF_DIR
from simcse_lit.evaluation import geometry
from simcse_lit.evaluation.analyses import AlignmentUniformity, Analysis, Anisotropy, Density, Spectrum
from simcse_lit.evaluation.geometry import alignment, effective_rank, random_pair_cosines, singular_values, uniformity
from simcse_lit.evaluation.sts import STSTask
from simcse_lit.evaluation.task import Embed

PAPER = AlignmentUniformity(positives_above=4.0, alpha=2.0, t=2.0)
ANALYSES: list[Analysis] = [PAPER, Density([0, 1, 2, 3, 4, 5]), Spectrum(), Anisotropy(pairs=200, seed=0)]

seeds = given(seed=st.integers(0, 2**31 - 1), count=st.integers(2, 40))


def unit(count: int, seed: int, hidden: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, hidden, generator=generator, dtype=torch.float64), dim=-1)


def slow_uniformity(z: Sequence[Sequence[float]], t: float) -> float:
    potentials = [math.exp(-t * sum((a - b) ** 2 for a, b in zip(x, y, strict=True))) for x, y in combinations(z, 2)]
    return math.log(sum(potentials) / len(potentials))


def toy(vectors: dict[str, list[float]], pairs: list[tuple[str, str]], gold: list[float]) -> tuple[STSTask, Embed]:
    return STSTask("toy", pairs, np.array(gold)), lambda sentences: torch.tensor([vectors[s] for s in sentences])


def numbered(z_NH: Tensor) -> Embed:
    """Row k is the vector of the sentence s{k}."""
    return lambda sentences: z_NH[[int(sentence[1:]) for sentence in sentences]]


@pytest.mark.parametrize(
    ("second", "aligned", "uniform"),
    [([1.0, 0.0], 0.0, 0.0), ([0.0, 1.0], 2.0, -4.0), ([-1.0, 0.0], 4.0, -8.0)],
    ids=["identical", "orthogonal", "antipodal"],
)
def test_two_vectors_have_the_distances_of_geometry(second: list[float], aligned: float, uniform: float) -> None:
    first_1H, second_1H = torch.tensor([[1.0, 0.0]]), torch.tensor([second])
    assert float(alignment(first_1H, second_1H)) == pytest.approx(aligned)
    assert float(uniformity(torch.cat([first_1H, second_1H]))) == pytest.approx(uniform)


def test_alignment_is_the_mean_power_of_the_distances() -> None:
    first_PH, second_PH = unit(5, 0), unit(5, 1)
    for alpha in (1.0, 2.0, 3.0):
        powers = [math.dist(x, y) ** alpha for x, y in zip(first_PH.tolist(), second_PH.tolist(), strict=True)]
        assert float(alignment(first_PH, second_PH, alpha)) == pytest.approx(sum(powers) / 5)


def test_uniformity_is_the_loop_over_distinct_pairs_also_of_vectors_of_any_length() -> None:
    z_NH = unit(9, 0)
    for t in (1.0, 2.0, 3.5):
        assert float(uniformity(z_NH, t)) == pytest.approx(slow_uniformity(z_NH.tolist(), t))
        assert float(uniformity(0.3 * z_NH, t)) == pytest.approx(slow_uniformity((0.3 * z_NH).tolist(), t))


@pytest.mark.parametrize("spread", [10.0, 0.3, 1e-2, 1e-4])
def test_uniformity_in_single_precision_over_several_blocks_is_within_a_millionth(spread: float) -> None:
    centre_H = torch.randn(64, generator=torch.Generator().manual_seed(1))
    z_NH = F.normalize(centre_H + spread * unit(2500, 0, hidden=64).float(), dim=-1)
    exact = torch.pdist(z_NH.double()).square().mul(-2).exp().mean().log()
    assert float(uniformity(z_NH)) == pytest.approx(float(exact), abs=1e-6)


def test_uniformity_under_autocast_is_that_in_full_precision() -> None:
    z_NH = unit(100, 0).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under_autocast = float(uniformity(z_NH))
    assert under_autocast == pytest.approx(slow_uniformity(z_NH.tolist(), 2.0), abs=1e-6)


@seeds
@settings(max_examples=30, deadline=None)
def test_size_of_the_blocks_does_not_matter(seed: int, count: int) -> None:
    z_NH = torch.linspace(0.3, 1, count).unsqueeze(1) * unit(count, seed)
    whole = float(uniformity(z_NH))
    for block in (1, 3, count - 1, count):
        with patch.object(geometry, "BLOCK", block):
            assert float(uniformity(z_NH)) == pytest.approx(whole, rel=1e-12)


@seeds
@settings(max_examples=30, deadline=None)
def test_rotation_and_order_of_the_sentences_do_not_matter(seed: int, count: int) -> None:
    first_PH, second_PH = unit(count, seed), unit(count, seed + 1)
    rotation_HH = torch.linalg.qr(unit(6, seed + 2))[0]
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    for changed_PH, partner_PH in ((first_PH @ rotation_HH, second_PH @ rotation_HH), (first_PH[order], second_PH[order])):
        assert float(alignment(changed_PH, partner_PH)) == pytest.approx(float(alignment(first_PH, second_PH)))
        assert float(uniformity(changed_PH)) == pytest.approx(float(uniformity(first_PH)))
        assert singular_values(changed_PH).tolist() == pytest.approx(singular_values(first_PH).tolist(), abs=1e-9)


def test_too_few_vectors_are_refused() -> None:
    with pytest.raises(ValueError, match="two vectors or more, got 1"):
        uniformity(torch.ones(1, 3))
    with pytest.raises(ValueError, match="two vectors or more, got 1"):
        random_pair_cosines(torch.ones(1, 3), 5, torch.Generator())
    with pytest.raises(ValueError, match=r"\(0, 3\) and \(0, 3\)"):
        alignment(torch.ones(0, 3), torch.ones(0, 3))
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(1, 3\)"):
        alignment(torch.ones(2, 3), torch.ones(1, 3))
    with pytest.raises(ValueError, match="no spectrum"):
        singular_values(torch.zeros(3, 3))


def test_spectrum_of_one_direction_and_of_orthonormal_rows() -> None:
    one = singular_values(torch.tensor([[3.0, 4.0], [6.0, 8.0], [-3.0, -4.0]]))
    assert one.tolist() == pytest.approx([1.0, 0.0], abs=1e-9)
    assert float(effective_rank(one)) == pytest.approx(1.0)
    rows = singular_values(torch.eye(4, 7))
    assert rows.tolist() == pytest.approx([1.0] * 4)
    assert float(effective_rank(rows)) == pytest.approx(4.0)


def test_spectrum_is_the_root_of_the_gram_matrix_s_eigenvalues_and_is_not_centred() -> None:
    z = unit(12, 3).numpy() + 0.5
    roots = np.sqrt(np.linalg.eigvalsh(z.T @ z)[::-1])
    assert singular_values(torch.from_numpy(z)).tolist() == pytest.approx((roots / roots[0]).tolist())
    shares = roots / roots.sum()
    rank = math.exp(-sum(share * math.log(share) for share in shares))
    assert float(effective_rank(torch.from_numpy(roots.copy()))) == pytest.approx(rank)


def test_random_pairs_never_pair_a_sentence_with_itself_and_reach_all_others() -> None:
    drawn = random_pair_cosines(torch.diag(torch.arange(1.0, 5.0)), 2000, torch.Generator().manual_seed(0))
    assert drawn.tolist() == [0.0] * 2000  # the diagonal's products with itself would be 1, 4, 9, 16
    powers = 2.0 ** torch.arange(4).unsqueeze(1)
    products = random_pair_cosines(powers, 2000, torch.Generator().manual_seed(0))
    shares = {value: float((products == value).float().mean()) for value in (2.0, 4.0, 8.0, 16.0, 32.0)}
    sixth = 1 / 6  # of the pairs; 1 x 8 and 2 x 4 are both 8
    assert shares == pytest.approx({2.0: sixth, 4.0: sixth, 8.0: 2 * sixth, 16.0: sixth, 32.0: sixth}, abs=0.03)


def test_random_pairs_follow_the_seed() -> None:
    z_NH = unit(50, 0)
    first, again, other = (random_pair_cosines(z_NH, 20, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_alignment_takes_pairs_strictly_above_the_threshold_and_uniformity_each_sentence_once() -> None:
    vectors = {"a": [1.0, 0.0], "b": [0.0, 2.0], "c": [-3.0, 0.0]}
    task, embed = toy(vectors, [("a", "b"), ("a", "a"), ("b", "c"), ("a", "c")], [4.2, 5.0, 4.0, 0.0])
    # Of the positives a-b and a-a the squared distances are 2 and 0; of all sentences a-b and b-c are 2 apart, a-c is 4.
    assert PAPER.compute(task, embed) == {
        "alignment": pytest.approx(1.0),
        "uniformity": pytest.approx(math.log((2 * math.exp(-4) + math.exp(-8)) / 3)),
        "pairs": 2,
        "sentences": 3,
    }
    none = PAPER.compute(STSTask("toy", task.pairs, np.zeros(4)), embed)
    assert (none["alignment"], none["pairs"]) == (None, 0)


def test_settings_reach_the_formulas() -> None:
    task, embed = toy({"a": [1.0, 0.0], "b": [0.0, 1.0]}, [("a", "b")], [3.0])
    found = AlignmentUniformity(positives_above=2.0, alpha=1.0, t=5.0).compute(task, embed)
    assert (found["alignment"], found["uniformity"]) == (pytest.approx(math.sqrt(2)), pytest.approx(-10.0))


def test_a_score_on_an_edge_belongs_to_the_lower_group_except_the_lowest() -> None:
    gold = [0.0, 1.0, 1.01, 2.0, 2.5, 4.0, 5.0, 5.1, -0.1]
    vectors = {"x": [1.0, 0.0], **{f"s{place}": [place / 10, math.sqrt(1 - place**2 / 100)] for place in range(9)}}
    task, embed = toy(vectors, [("x", f"s{place}") for place in range(9)], gold)
    groups = Density([0, 1, 2, 3, 4, 5]).compute(task, embed)["groups"]
    assert [(group["above"], group["up_to"], group["pairs"]) for group in groups] == [
        (0.0, 1.0, 2),
        (1.0, 2.0, 2),
        (2.0, 3.0, 1),
        (3.0, 4.0, 1),
        (4.0, 5.0, 1),
    ]
    assert [group["mean"] for group in groups] == pytest.approx([0.05, 0.25, 0.4, 0.5, 0.6])
    assert [group["std"] for group in groups] == pytest.approx([0.05, 0.05, 0.0, 0.0, 0.0])


def test_density_is_scott_s_kernel_density_where_cosines_spread() -> None:
    angles = np.random.default_rng(0).normal(math.pi / 2, 0.2, 300)
    vectors = {"x": [1.0, 0.0], **{f"s{place}": [math.cos(a), math.sin(a)] for place, a in enumerate(angles)}}
    task, embed = toy(vectors, [("x", f"s{place}") for place in range(300)], [3.0] * 300)
    found = Density([0, 5]).compute(task, embed)
    # scipy's bandwidth is a factor of the sample deviation, ours of the population's.
    reference = gaussian_kde(np.cos(angles), lambda kernel: kernel.scotts_factor() * math.sqrt(299 / 300))
    assert found["groups"][0]["density"] == pytest.approx(reference(np.array(found["grid"])).tolist(), abs=1e-4)


@pytest.mark.parametrize("cosines", [[0.3], [0.3, 0.3], [0.3 + 1e-6 * k for k in range(9)]], ids=["one", "equal", "close"])
def test_density_of_one_or_of_equal_cosines_is_a_peak_of_area_one(cosines: list[float]) -> None:
    vectors = {"x": [1.0, 0.0], **{f"s{k}": [cosine, math.sqrt(1 - cosine**2)] for k, cosine in enumerate(cosines)}}
    task, embed = toy(vectors, [("x", f"s{k}") for k in range(len(cosines))], [0.5] * len(cosines))
    found = Density([0, 1, 2]).compute(task, embed)
    filled, empty = found["groups"]
    assert found["grid"][int(np.argmax(filled["density"]))] == pytest.approx(0.3)
    assert sum(filled["density"]) * (found["grid"][1] - found["grid"][0]) == pytest.approx(1.0, abs=1e-3)
    assert (empty["pairs"], empty["mean"], empty["std"], max(empty["density"])) == (0, None, None, 0.0)


@pytest.mark.parametrize(("collapsed", "mean"), [(False, 0.0), (True, 1.0)], ids=["gaussian", "identical"])
def test_anisotropy_is_none_for_gaussians_and_full_for_identical_vectors(collapsed: bool, mean: float) -> None:
    z_NH = torch.randn(400, 700, generator=torch.Generator().manual_seed(0))
    z_NH = z_NH[:1].expand(400, -1) if collapsed else z_NH
    task = STSTask("toy", [(f"s{k}", f"s{k + 1}") for k in range(0, 400, 2)], np.zeros(200))
    found = Anisotropy(pairs=1000, seed=0).compute(task, numbered(z_NH))
    assert found["mean_cosine"] == pytest.approx(mean, abs=0.005)
    assert found["std_cosine"] == pytest.approx(0 if collapsed else 1 / math.sqrt(700), abs=0.003)
    counts, edges = found["histogram"]["counts"], found["histogram"]["edges"]
    assert (found["pairs"], sum(counts), len(edges) - len(counts)) == (1000, 1000, 1)
    busiest = int(np.argmax(counts))
    assert edges[busiest] - 0.021 <= mean <= edges[busiest + 1] + 0.021


def test_a_vector_of_length_zero_gives_numbers_in_every_analysis() -> None:
    vectors = {"a": [1.0, 0.0], "b": [0.0, 1.0], "nothing": [0.0, 0.0]}
    task, embed = toy(vectors, [("a", "b"), ("a", "nothing")], [4.5, 4.5])
    for analysis in ANALYSES:
        text = json.dumps(analysis.compute(task, embed), allow_nan=False)
        assert json.loads(text) == analysis.compute(task, embed)
    # The zero vector is 1 from both others: exp(-2) twice, and exp(-4) for a-b; the positives are 2 and 1 apart.
    found = PAPER.compute(task, embed)
    assert found["uniformity"] == pytest.approx(math.log((2 * math.exp(-2) + math.exp(-4)) / 3))
    assert found["alignment"] == pytest.approx(1.5)


def test_length_of_the_vectors_does_not_matter_to_any_analysis() -> None:
    z_NH = unit(40, 0).float()
    length_N1 = torch.linspace(0.1, 50, 40).unsqueeze(1)
    task = STSTask("toy", [(f"s{k}", f"s{k + 1}") for k in range(0, 40, 2)], np.linspace(0, 5, 20))
    for analysis in ANALYSES:
        plain, scaled = (analysis.compute(task, numbered(vectors_NH)) for vectors_NH in (z_NH, length_N1 * z_NH))
        assert _rounded(scaled) == _rounded(plain)


def conf(option: str) -> Any:
    return OmegaConf.load(CONF_DIR / "analyses" / f"{option}.yaml")


@pytest.mark.parametrize("name", [analysis.name for analysis in ANALYSES])
def test_conf_makes_each_analysis_under_its_name(name: str) -> None:
    analysis = instantiate(conf(name)[name])
    assert analysis.name == name
    json.dumps(analysis.compute(*toy({"a": [1.0, 0.0], "b": [0.0, 1.0]}, [("a", "b")], [3.0])))


def test_conf_has_the_paper_s_settings_and_all_takes_every_analysis() -> None:
    assert instantiate(conf(PAPER.name)[PAPER.name]) == PAPER
    assert conf("density").density.edges == [0, 1, 2, 3, 4, 5]
    assert set(conf("all").defaults) == {analysis.name for analysis in ANALYSES}


def _rounded(value: object) -> object:
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return pytest.approx(value, abs=1e-5) if isinstance(value, float) else value
