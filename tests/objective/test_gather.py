"""Two processes with half of the batch each against one with all of it: loss and every gradient, and what must not pass.

The two processes run once, for all cases; each shortcut of the kind that peers took must fail the very same comparison.
"""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from simcse_lit.distributed import world
from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.errors import UserError
from simcse_lit.evaluation.embeddings import Embeddings
from simcse_lit.objective.contrastive import contrastive_logits, contrastive_loss
from simcse_lit.objective.gather import gather_rows
from simcse_lit.objective.info_nce import Mask, Negatives
from simcse_lit.objective.mlm import IGNORED
from simcse_lit.testing.small_run import roles_of
from simcse_lit.training.chunking import Chunking
from simcse_lit.training.module import SimCSEModule
from tests.encoders import objective_of, ragged_batch, small_bert

LENGTHS = [4, 12, 4, 30, 7, 12, 3, 9, 15, 6, 5, 21]  # of 12 sentences: 6 examples of two views, or 4 of three


class Margin(nn.Module):
    def forward(self, cosine_B: Tensor) -> Tensor:
        return cosine_B - 0.1


class Mixed(Negatives):
    """Of every anchor and each candidate of another kind the half way, (B, N, D)."""

    def forward(self, step: Any, anchor_BD: Tensor, candidates: Sequence[Tensor]) -> Tensor:
        return (anchor_BD[:, None] + candidates[-1].detach()) / 2


class SameLength(Mask):
    """Leaves out candidates whose anchors are as long as the row's own."""

    def forward(self, step: Any) -> Tensor:
        lengths_B = step.mask_BVL[:, 0].sum(-1)
        same: Tensor = lengths_B[:, None] == step.gather(lengths_B)
        return same


CASES: dict[str, dict[str, Any]] = {
    "unsup": {"views": 2},
    "sup": {"views": 3},
    "weight": {"views": 3, "hard_negative_weight": 0.7},
    "mlm": {"views": 2, "mlm_weight": 0.1},
    "mlm with hard negatives": {"views": 3, "hard_negative_weight": -1.0, "mlm_weight": 0.1},
    "chunks": {"views": 3, "hard_negative_weight": 0.7, "mlm_weight": 0.1, "micro_batch_size": 1},
    "both directions, own view": {"views": 3, "directions": "both", "own_view": True},
    "decoupled": {"views": 3, "denominator": "negatives"},
    "parts": {"views": 3, "positive": Margin, "negatives": Mixed, "masks": SameLength},
    "float32": {"views": 3, "hard_negative_weight": 0.7, "mlm_weight": 0.1, "dtype": torch.float32},
}


class Step(nn.Module):
    """The training step of our module, with a learnable temperature, as a module that data parallelism can wrap."""

    def __init__(
        self,
        *,
        views: int,
        hard_negative_weight: float = 0.0,
        mlm_weight: float = 0.0,
        micro_batch_size: int | None = None,
        dtype: torch.dtype = torch.float64,
        loss_factor: float = 1.0,
        dropout: bool = False,
        **of_contrastive: Any,
    ) -> None:
        super().__init__()
        encoder = SentenceEncoder(small_bert(mlm=True), "avg", "mlp").train(dropout)
        self.training_module = SimCSEModule(
            encoder,
            objective_of(
                mlm_weight=mlm_weight,
                hard_negative_weight=hard_negative_weight,
                learn_temperature=True,
                **{name: made(part) for name, part in of_contrastive.items()},
            ),
            chunking=Chunking("never" if micro_batch_size is None else "always", 96, micro_batch_size),
            optimisation=None,  # type: ignore[arg-type]
            scorer=None,  # type: ignore[arg-type]
            made_of={},
            seed=0,
            roles=roles_of(views),
        )
        if mlm_weight == 0 and encoder.language_model is not None:
            for name, parameter in encoder.language_model.named_parameters():
                parameter.requires_grad_(name.startswith("bert."))
        self.to(dtype)
        self.training_module._log_loss = lambda name, loss: None  # type: ignore[method-assign]
        self.loss_factor = loss_factor

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        planned = self.training_module.on_before_batch_transfer(batch, 0)
        return self.training_module.training_step(planned, 0) * self.loss_factor


def made(part: Any) -> Any:
    if not isinstance(part, type):
        return part
    return part() if part is Margin else {"mine": part()}


def batch_of(views: int) -> dict[str, Tensor]:
    ids, mask = ragged_batch(LENGTHS)
    return {"input_ids": ids.unflatten(0, (-1, views)), "attention_mask": mask.unflatten(0, (-1, views))}


def every_fifth_id(ids_NL: Tensor, maskable_NL: Tensor, **settings: Any) -> tuple[Tensor, Tensor]:
    """A masking that depends on the tokens alone, so that one process and two mask alike."""
    chosen_NL = maskable_NL & (ids_NL % 5 == 0)
    return torch.where(chosen_NL, 4, ids_NL), ids_NL.masked_fill(~chosen_NL, IGNORED)


def step(rank: int = 0, processes: int = 1, *, draw: int = 0, **case: Any) -> dict[str, Tensor]:
    """Loss and gradients of this process's part of the batch, as data parallelism leaves them."""
    model: Any = Step(**case)
    torch.manual_seed(draw)
    parts = {name: tensor.chunk(processes)[rank] for name, tensor in batch_of(case["views"]).items()}
    wrapped = DistributedDataParallel(model, broadcast_buffers=False) if processes > 1 else model
    loss = wrapped(parts)
    loss.backward()
    total = loss.detach().clone()
    if processes > 1:
        dist.all_reduce(total)
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {"loss": total / processes / model.loss_factor, **gradients}


def gathered(local_B: Tensor) -> list[Tensor]:
    parts = [torch.empty_like(local_B) for _ in range(world()[1])]
    dist.all_gather(parts, local_B.detach().contiguous())
    return parts


def spliced(local_B: Tensor) -> Tensor:
    parts = gathered(local_B)
    parts[world()[0]] = local_B
    return torch.cat(parts)


def all_rows(anchor_BH: Tensor, *candidates: Tensor, first: int, **settings: Any) -> Tensor:
    """The reference implementation: every process computes the loss of the whole batch."""
    return contrastive_logits(spliced(anchor_BH), *candidates, **settings)


GATHER, MEAN = "simcse_lit.objective.step.gather_rows", "simcse_lit.objective.step.mean_over_ranks"
LOGITS, LOSS = "simcse_lit.objective.info_nce.contrastive_logits", "simcse_lit.objective.info_nce.contrastive_loss"
MASKING = "simcse_lit.objective.mlm.mask_tokens"
TEMPERATURE = "training_module.objective.terms.contrastive.log_scale"
REFERENCE: dict[str, Callable[..., Any]] = {
    GATHER: spliced,
    LOGITS: all_rows,
    LOSS: lambda logits_BN, first, **settings: contrastive_loss(logits_BN, **settings),
}


def column_of_one_process(*views: Tensor, hard_negative_weight: float, first: int, **settings: Any) -> Tensor:
    logits_BN = contrastive_logits(*views, first=first, **settings)
    batch, candidates = len(views[0]), len(views[1])
    own = torch.zeros_like(logits_BN)
    own[range(batch), range(candidates, candidates + batch)] = hard_negative_weight
    return logits_BN + own


SHORTCUTS: dict[str, tuple[dict[str, Callable[..., Any]], dict[str, Any]]] = {
    "detached gather, own rows spliced in": (REFERENCE, {}),
    "the same, loss times the number of processes": (REFERENCE, {"loss_factor": 2.0}),
    "local rows over detached candidates": ({GATHER: lambda x: torch.cat(gathered(x))}, {}),
    "hard negative in column i": ({LOGITS: column_of_one_process}, {}),
    "every process divides by its own masked tokens": ({MEAN: lambda x: x}, {}),
}


def case_of(shortcut: str) -> str:
    return "mlm with hard negatives" if "masked tokens" in shortcut else "weight"


def work(rank: int, processes: int, folder: str) -> None:
    """One of the two processes: every case, every shortcut, and the gradient cache under dropout."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=processes)
    results: dict[str, Any] = {}
    patch = pytest.MonkeyPatch()
    patch.setattr(MASKING, every_fifth_id)
    for name, case in CASES.items():
        results[name] = step(rank, processes, **case)
    for name, (changes, settings) in SHORTCUTS.items():
        with pytest.MonkeyPatch.context() as changed:
            for path, function in changes.items():
                changed.setattr(path, function)
            results[name] = step(rank, processes, **CASES[case_of(name)], **settings)
    results["reductions"] = torch.tensor([reductions(rank, size) for size in (None, 1)])
    results["shared"], results["not shared"] = shared(rank)
    if rank == 0:
        torch.save(results, Path(folder) / "results.pt")
    dist.destroy_process_group()


def reductions(rank: int, micro_batch_size: int | None) -> int:
    """How often a step with three chunks or more reduces the one bucket of gradients."""
    calls = 0

    def count(state: Any, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
        nonlocal calls
        calls += 1
        future: torch.futures.Future[Tensor] = torch.futures.Future()
        future.set_result(bucket.buffer())
        return future

    model: Any = Step(views=3, mlm_weight=0.1, micro_batch_size=micro_batch_size, dropout=True)
    wrapped = DistributedDataParallel(model, broadcast_buffers=False, bucket_cap_mb=1000)
    wrapped.register_comm_hook(None, count)
    for _ in range(2):  # DDP rebuilds its buckets after the first step
        calls = 0
        wrapped({name: tensor.chunk(2)[rank] for name, tensor in batch_of(3).items()}).backward()
    return calls


def shared(rank: int) -> tuple[Tensor, str]:
    """Vectors after two processes have shared them, of which both had added one; and what is said of one that none had."""
    embeddings = Embeddings(["a", "b", "c"])
    embeddings.add(torch.tensor([[0, 1], [2, 1]][rank]), torch.tensor([[1.0], [2.0]]) + 10 * rank)
    embeddings.share(torch.device("cpu"))
    incomplete = Embeddings(["a", "b", "c"])
    incomplete.add(torch.tensor([2 * rank]), torch.ones(1, 1))
    try:
        incomplete.share(torch.device("cpu"))
    except UserError as error:
        return embeddings(["a", "b", "c"]), str(error)
    return embeddings(["a", "b", "c"]), "nothing"


@pytest.fixture(scope="session")  # workers take other modules between its tests
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("processes")
    torch.multiprocessing.start_processes(work, (2, str(folder)), nprocs=2, start_method="forkserver")
    return dict(torch.load(folder / "results.pt", weights_only=True))


def alone(monkeypatch: pytest.MonkeyPatch, case: str) -> dict[str, Tensor]:
    monkeypatch.setattr(MASKING, every_fifth_id)
    return step(**{**CASES[case], "micro_batch_size": None})


def difference(ours: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """The largest error of the loss or of any parameter's gradient, relative to that gradient's largest entry."""
    assert ours.keys() == expected.keys() and TEMPERATURE in ours
    scale = max(float(gradient.abs().max()) for gradient in expected.values())
    return max(
        float((ours[name] - expected[name]).abs().max() / expected[name].abs().max().clamp(min=1e-3 * scale))
        for name in expected
    )


@pytest.mark.parametrize("case", CASES)
def test_two_processes_have_the_loss_and_gradient_of_one(
    two_processes: dict[str, Any], monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    limit = 1e-5 if case == "float32" else 1e-10
    assert difference(two_processes[case], alone(monkeypatch, case)) < limit


@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_each_shortcut_fails_the_same_comparison(
    two_processes: dict[str, Any], monkeypatch: pytest.MonkeyPatch, shortcut: str
) -> None:
    assert difference(two_processes[shortcut], alone(monkeypatch, case_of(shortcut))) > 1e-3


def test_the_spliced_gather_halves_the_gradient_and_scaling_breaks_the_temperature(
    two_processes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signatures by which the two shortcuts are known."""
    true = alone(monkeypatch, "weight")
    weight = "training_module.encoder.projection.dense.weight"
    halved = two_processes["detached gather, own rows spliced in"]
    scaled = two_processes["the same, loss times the number of processes"]
    torch.testing.assert_close(halved[weight], true[weight] / 2, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(scaled[weight], true[weight], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(scaled[TEMPERATURE], 2 * true[TEMPERATURE], rtol=1e-9, atol=1e-12)


def test_gradient_cache_reduces_gradients_once_a_step(two_processes: dict[str, Any]) -> None:
    assert two_processes["reductions"].tolist() == [1, 1]


def test_vectors_are_shared_the_lowest_ranks_where_several_have_one_and_a_missing_one_is_named(
    two_processes: dict[str, Any],
) -> None:
    assert two_processes["shared"].tolist() == [[1.0], [2.0], [11.0]]
    assert two_processes["not shared"].startswith("1 of 3 sentences to score were not encoded, the first: 'b'\n")


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("case", ["unsup", "mlm with hard negatives"])
def test_gradient_cache_replays_the_dropout_and_precision_of_its_chunks(
    monkeypatch: pytest.MonkeyPatch, case: str, half: bool
) -> None:
    dtype = torch.float32 if half else torch.float64

    def dropout(draw: int = 0) -> dict[str, Tensor]:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            return step(**CASES[case], micro_batch_size=1, dropout=True, dtype=dtype, draw=draw)

    def gradients(*, recompute: bool) -> dict[str, Tensor]:
        if not recompute:
            monkeypatch.setattr("simcse_lit.training.gradient_cache.checkpoint", lambda f, *part, use_reentrant: f(*part))
        return dropout()

    cached, plain = gradients(recompute=True), gradients(recompute=False)
    assert difference(cached, plain) < (1e-5 if half else 1e-10)
    assert difference(dropout(draw=1), plain) > 1e-3


def test_gather_in_one_process_is_the_tensor_itself() -> None:
    local = torch.ones(2, 3, requires_grad=True)
    assert gather_rows(local) is local and world() == (0, 1)
