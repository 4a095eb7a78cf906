"""CoSENT, the terms of AnglE, and the commands that train with them on scored pairs."""

import math
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from simcse_lit.errors import UserError
from simcse_lit.evaluation.senteval import SentEval
from simcse_lit.evaluation.sts import STSTask
from simcse_lit.evaluation.suite import scored_task
from simcse_lit.methods.angle import Angle, LowScores
from simcse_lit.methods.cosent import CoSENT
from simcse_lit.objective.info_nce import InfoNCE
from simcse_lit.testing import check_formula, check_term, step_of
from simcse_lit.testing.small_run import VOCABULARY
from simcse_lit.training.build import build_objective
from tests.conftest import ROOT, Cli, evaluate_config, metrics, train_config

PAIRS = ("anchor", "positive")
SCORES = [1 / (1 + place) for place in range(5)]  # those of `step_of`
RAW = [  # rows of STS-B: tab separated, without a header, quotes are characters
    'main-captions\tMSRvid\t2012test\t0001\t5.000\tA "plane" is taking off.\tAn air plane is taking off.',
    "main-captions\tMSRvid\t2012test\t0004\t3.800\tA man is playing a large flute.\tA man is playing a flute.",
    'main-forums\tdeft\t2013\t0005\t0.400\t"A man, they say, slices bread.\tThe cat sleeps.',
    "main-forums\tdeft\t2013\t0006\t1.250\tRain falls on the town.\tA town lies by the sea.",
]


def cosine(u: Tensor, v: Tensor) -> float:
    return float(u @ v / (u.norm() * v.norm()))


def angle(u: Tensor, v: Tensor) -> float:
    """|sum of the parts of the complex quotient u / v| without its length."""
    half = len(u) // 2
    parts = 0.0
    for place in range(half):
        product = complex(u[place], u[half + place]) * complex(v[place], v[half + place]).conjugate()
        parts += product.real + product.imag
    return abs(parts / float(u.norm() * v.norm()))


def of_pairs(alike: Callable[[Tensor, Tensor], float], scores: Sequence[float], vectors_BVD: Tensor) -> float:
    of = [alike(row[0], row[1]) for row in vectors_BVD]
    ordered = [(i, j) for i in range(len(of)) for j in range(len(of)) if scores[i] < scores[j]]
    return math.log(1 + sum(math.exp(20 * (of[i] - of[j])) for i, j in ordered))


def test_cosent_is_a_term_and_agrees_with_loops_over_pairs_of_pairs() -> None:
    check_formula(CoSENT, partial(of_pairs, cosine, SCORES), views=PAIRS)
    check_term(CoSENT, views=PAIRS)


def test_the_angle_term_is_a_term_and_agrees_with_complex_numbers() -> None:
    check_formula(Angle, partial(of_pairs, angle, SCORES), views=PAIRS)
    check_term(Angle, views=PAIRS)


def test_equal_scores_are_not_compared_and_only_the_order_counts() -> None:
    vectors_BVD = torch.randn(4, 2, 6, generator=torch.Generator().manual_seed(0))
    scores = [3.0, 1.0, 3.0, -2.0]
    for changed in (scores, [score / 5 for score in scores], [score**3 for score in scores]):
        loss = CoSENT()(step_of(vectors_BVD, extras={"scores": torch.tensor(changed)}))
        assert loss.item() == pytest.approx(of_pairs(cosine, scores, vectors_BVD), rel=1e-5)


def test_a_batch_with_one_score_has_the_loss_0_and_no_gradient() -> None:
    vectors_BVD = torch.randn(3, 2, 6, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = CoSENT()(step_of(vectors_BVD, extras={"scores": torch.full((3,), 2.5)}))
    (gradient_BVD,) = torch.autograd.grad(loss, vectors_BVD)
    assert loss.item() == 0 and not gradient_BVD.any()


def test_a_scale_at_which_the_exponentials_overflow_stays_finite() -> None:
    """exp(2000) is infinite, and a mask of -1e12 would not fit into half precision."""
    u_D = torch.tensor([1.0, 0, 0, 0])
    vectors_BVD = torch.stack([torch.stack([u_D, u_D]), torch.stack([u_D, -u_D])])
    loss = CoSENT(1000.0)(step_of(vectors_BVD, extras={"scores": torch.tensor([0.0, 1.0])}))
    assert loss.item() == pytest.approx(2000)


def test_the_angle_of_a_pair_depends_on_which_sentence_is_first() -> None:
    u_1D, v_1D = torch.tensor([[1.0, 2, 3, 4]]), torch.tensor([[2.0, -1, 0, 3]])
    term = Angle()
    assert term.alike(u_1D, v_1D).item() == pytest.approx(angle(u_1D[0], v_1D[0]))
    assert term.alike(u_1D, v_1D) != term.alike(v_1D, u_1D)


def test_vectors_without_two_halves_are_refused() -> None:
    with pytest.raises(UserError, match="these have 7 numbers"):
        Angle().setup(7, VOCABULARY)
    with pytest.raises(ValueError, match="must be greater than 0"):
        CoSENT(0)


def test_only_pairs_with_a_high_score_are_positives_of_info_nce() -> None:
    vectors_BVD = torch.randn(5, 2, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    losses = []
    for row in [place for place, score in enumerate(SCORES) if score >= 0.3]:
        total = sum(math.exp(20 * cosine(vectors_BVD[row, 0], other[1])) for other in vectors_BVD)
        losses.append(math.log(total) - 20 * cosine(*vectors_BVD[row]))
    assert len(losses) == 3
    term = InfoNCE(0.05, masks={"low_scores": LowScores(0.3)})
    assert term.needs == {"positive", "scores"}
    assert term(step_of(vectors_BVD)).item() == pytest.approx(sum(losses) / 5)


def test_the_losses_of_these_names_have_the_weights_of_their_sources() -> None:
    config = train_config("loss=cosent", "model=tiny", "data=samples")
    assert build_objective(config).weights == {"cosent": 1.0}
    assert (config.data.columns, config.data.scores) == (["sentence1", "sentence2"], "score")
    assert config.projection["name"] == "none" and config.optimizer.lr == 2e-5 and config.data.max_length == 64
    assert train_config("loss=angle", "data=samples").data.max_length == 128
    config = train_config("loss=angle", "model=tiny", "data=samples")
    objective = build_objective(config)
    assert objective.weights == {"angle": 0.02, "contrastive": 1.0, "cosent": 1.0}
    assert isinstance(objective.terms["angle"], Angle)
    with pytest.raises(UserError, match=r"loss.terms.cosent: needs scores. Name their column"):
        build_objective(train_config("loss=cosent", "model=tiny", "data=samples", "data.scores=null"))


SHORT = (
    "model=tiny",
    "tasks=samples",
    "tasks@dev=samples-dev",
    "evaluation.before=false",
    "trainer=cpu",
    "trainer.log_every_n_steps=1",
)


@pytest.mark.parametrize("loss", ["cosent", "angle"])
def test_the_command_trains_on_a_file_of_scored_pairs(loss: str, warm_cli: Cli, tmp_path: Path) -> None:
    table = tmp_path / "STS-B-train.tsv"
    table.write_text("score\tsentence1\tsentence2\n" + "".join("\t".join(row.split("\t")[4:]) + "\n" for row in RAW))
    small = ("data.batch_size=2", "trainer.max_steps=2", f"data.cache_dir={tmp_path}/cache")
    ran = warm_cli(f"loss={loss}", "data=file", f"data.train_file={table}", *SHORT, *small, "hydra.run.dir=run")
    assert ran.returncode == 0, ran.stderr
    logged = metrics(tmp_path / "run")
    assert len(logged["train/loss/cosent"]) == 2 and ("train/loss/angle" in logged) == (loss == "angle")
    told = {"cosent": "terms: cosent", "angle": "temperature 0.05, terms: angle, contrastive, cosent"}[loss]
    assert f"Loss     {loss}, {told}, 2 views" in ran.stdout


def test_the_page_says_how_many_test_pairs_the_training_set_of_sts_b_holds(simcse_data: Path) -> None:
    """Training on it is training on the test pairs of the other sets."""

    def plain(*pair: str) -> frozenset[str]:
        return frozenset(" ".join(re.findall(r"[^\W_]+", text.lower())) for text in pair)

    raw = (simcse_data / "SentEval" / "STS" / "STSBenchmark" / "sts-train.csv").read_text(encoding="utf-8")
    trained = {plain(*line.split("\t")[5:7]) for line in raw.splitlines()}
    config = evaluate_config(f"senteval.dir={simcse_data}")
    page = (ROOT / "docs" / "how-to" / "scored-pairs.md").read_text(encoding="utf-8")
    for name, entry in config.tasks.items():
        task = scored_task(name, entry, SentEval(config.senteval))
        assert isinstance(task, STSTask)
        held = sum(plain(*pair) in trained for pair in task.pairs)
        assert f"| {name} | {len(task.pairs):,} | {held:,} |" in page


def test_a_row_without_a_score_is_named_with_file_and_line(warm_cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "scored.csv").write_text("sentence1,sentence2,score\na,b,4.5\nc,d,\ne,f,high\n")
    said = warm_cli("loss=cosent", "data=file", "data.train_file=scored.csv", *SHORT)
    assert said.returncode == 1 and "scored.csv, line 3: score is missing" in said.stderr
    assert "scored.csv, line 4: score is not a number: 'high'" in said.stderr
