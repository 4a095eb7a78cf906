"""Checks that every term, head and pooler must pass. Call them in the tests of your package.

Each function raises an `AssertionError` that says what is wrong. It trains a BERT with three layers and random weights for a
few steps on the CPU. There is no dropout unless the function says so.

Example::

    def test_my_term() -> None:
        check_term(partial(MyTerm, size=8))

    def test_my_head() -> None:
        check_head({"name": "my_head", "_target_": "my_lab.heads.MyHead", "when": "training"})

Shapes: B examples, V views, L length, D numbers of a vector.
"""

import multiprocessing
import warnings
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from simcse_lit.objective.info_nce import InfoNCE
from simcse_lit.objective.step import Step
from simcse_lit.objective.term import Term
from simcse_lit.testing.small_run import (
    SETTINGS,
    VOCABULARY,
    Make,
    Part,
    Trained,
    Views,
    batch_of,
    extras_of,
    roles_of,
    step_of,
    steps_of,
)

__all__ = [
    "check_corners",
    "check_draws",
    "check_formula",
    "check_head",
    "check_micro_batches",
    "check_packing",
    "check_pooler",
    "check_precision",
    "check_processes",
    "check_resume",
    "check_term",
    "check_training",
    "step_of",
]

USUAL: Make = partial(InfoNCE, 0.05)  # the term that heads and poolers are checked with
HUNDRED: dict[str, Any] = {
    "steps": 100,
    "dropout": True,
    "dtype": torch.float32,
    "adam": True,
    "lr": 1e-4,
    "ranks": True,
}
EXACT = 1e-10  # largest relative error of a gradient in float64


def check_term(make: Make, *, views: Views = 3, draws: bool = False, **beside: Any) -> None:
    """Run all checks of a term.

    These are `check_draws`, `check_processes`, `check_micro_batches`, `check_packing`, `check_resume`, `check_corners`,
    `check_precision` and `check_training`.

    Args:
        make: returns the term, the same each time. It is a class, a function of a module, or a `functools.partial` of one,
            because other processes call it too.
        views: number of views V, where the third and later views are hard negatives; or the roles of V views.
        draws: the term draws random numbers. Two processes draw other numbers than one, so they are not compared.
        beside: what the term is used with, as in the configuration: `head` and `pooler`, each a name or a node;
            `beside`, the nodes of `loss.beside`; and `denoising`, a `simcse_lit.encoder.denoising.Denoising`.

    Raises:
        AssertionError: a check fails.

    Example:
        A term with an argument::

            check_term(partial(Memory, size=10, temperature=0.05))
    """
    check_draws(make, views=views, draws=draws, **beside)
    if not draws:
        check_processes(make, views=views, **beside)
    _check_alone(make, views=views, **beside)


def check_head(node: Part) -> None:
    """Run all checks of a head, trained with InfoNCE: as `check_term`, without `check_draws`.

    Args:
        node: the registered name; or a mapping with `name`, `_target_`, `when` and arguments, as in the configuration.

    Raises:
        AssertionError: a check fails.
    """
    check_processes(USUAL, head=node)
    _check_alone(USUAL, head=node)


def check_pooler(node: Part) -> None:
    """Run all checks of a pooler: as `check_head`, and that padding and other sentences change no vector.

    Args:
        node: the registered name; or a mapping with `name`, `_target_` and arguments, as in the configuration.

    Raises:
        AssertionError: a check fails.
    """
    check_processes(USUAL, pooler=node)
    _check_alone(USUAL, pooler=node)
    encoder = Trained(USUAL, **{**SETTINGS, "roles": roles_of(2), "pooler": node}).double().trained.encoder.eval()
    batch = batch_of(2)
    ids_NL, mask_NL = batch["input_ids"].flatten(0, 1), batch["attention_mask"].flatten(0, 1)
    together_ND = encoder.embed(F.pad(ids_NL, (0, 5)), F.pad(mask_NL, (0, 5)))
    for row, length in enumerate(mask_NL.sum(1).tolist()):
        alone_1D = encoder.embed(ids_NL[row : row + 1, :length], mask_NL[row : row + 1, :length])
        error = float((together_ND[row] - alone_1D[0]).detach().abs().max())
        assert error < EXACT, f"padding and other sentences change a vector by {error:.1e}"


def _check_alone(make: Make, *, views: Views = 3, **part: Any) -> None:
    """Run the checks that need one process."""
    check_micro_batches(make, views=views, **part)
    check_packing(make, views=views, **part)
    check_resume(make, views=views, **part)
    check_corners(make, views=views, **part)
    check_precision(make, views=views, **part)
    check_training(make, views=views, **part)


def check_formula(make: Make, reference: Callable[[Tensor], float], *, views: Views = 3) -> None:
    """Check that the loss equals that of a plain reference, for random vectors in float64.

    Args:
        make: returns the term.
        reference: computes the loss from vectors, (B, V, D).
        views: number or roles of the views.

    Raises:
        AssertionError: they differ by more than 1e-6, relative to the reference or to 1.
    """
    roles = roles_of(views)
    vectors_BVD = torch.randn(5, len(roles), 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    term = make()
    term.setup(32, VOCABULARY)
    loss = _loss(term.double()(step_of(vectors_BVD, roles))).item()
    expected = reference(vectors_BVD)
    assert abs(loss - expected) <= 1e-6 * max(abs(expected), 1.0), f"the loss is {loss}, and the reference says {expected}"


def check_draws(make: Make, *, views: Views = 3, draws: bool = False, **part: Any) -> None:
    """Check that a term draws only if `draws` is true, and that another term changes neither its draws nor dropout."""
    first, second = (steps_of(make, views=views, seed=seed, steps=1, **part) for seed in (0, 1))
    differ = not torch.equal(first["loss 0"], second["loss 0"])
    assert differ == draws, f"another seed {'changes' if differ else 'does not change'} the loss: draws={differ}"
    settings: dict[str, Any] = {"views": views, "dropout": True, "steps": 1, **part}
    alone, joined = (steps_of(make, more=more, **settings) for more in ({}, {"another": _Noise()}))
    _assert_same(joined, alone, "another term that draws beside it")


def check_processes(make: Make, *, views: Views = 3, **part: Any) -> None:
    """Check that two processes with half of the batch each have the gradients and buffers of one with the whole batch."""
    with TemporaryDirectory() as folder:
        # children of a process that has imported everything start quickly
        multiprocessing.set_forkserver_preload([__name__])
        arguments = (make, views, part, folder)
        torch.multiprocessing.start_processes(_work, arguments, nprocs=2, start_method="forkserver")
        two = torch.load(Path(folder) / "two.pt", weights_only=True)
    _assert_same(two, steps_of(make, views=views, **part), "two processes")


def check_micro_batches(make: Make, *, views: Views = 3, **part: Any) -> None:
    """Check that micro-batches give the gradients and buffers of the whole batch."""
    micro = steps_of(make, views=views, **part, how="always", micro_batch_size=1)
    _assert_same(micro, steps_of(make, views=views, **part), "micro-batches")


def check_packing(make: Make, *, views: Views = 3, **part: Any) -> None:
    """Check that packed rows give the gradients and buffers of padded rows."""
    _assert_same(steps_of(make, views=views, **part, how="packed"), steps_of(make, views=views, **part), "packing")


def check_resume(make: Make, *, views: Views = 3, **part: Any) -> None:
    """Check that a run that was stopped and resumed ends with the same bits as one that was not."""
    whole = steps_of(make, views=views, **part, dropout=True, steps=3)
    continued = steps_of(make, views=views, **part, dropout=True, steps=3, stop_after=2)
    for name, value in whole.items():
        assert torch.equal(continued[name], value), f"after a stop and a resume, {name} differs; keep state in buffers"


def check_corners(make: Make, *, views: Views = 3, **part: Any) -> None:
    """Check that losses and gradients are finite for equal examples, positives equal to anchors, and one example."""
    batch = batch_of(views)
    ids_BVL, mask_BVL = batch["input_ids"], batch["attention_mask"]
    corners = {
        "equal examples": (ids_BVL[:1].expand_as(ids_BVL), mask_BVL[:1].expand_as(mask_BVL)),
        "positives that are their anchors": (ids_BVL[:, :1].expand_as(ids_BVL), mask_BVL[:, :1].expand_as(mask_BVL)),
        "one example": (ids_BVL[:1], mask_BVL[:1]),
    }
    for name, (ids, mask) in corners.items():
        corner = {"input_ids": ids, "attention_mask": mask, "extras": extras_of(ids)}
        found = steps_of(make, views=views, **part, batches=[corner] * 2)
        bad = [key for key, value in found.items() if not value.isfinite().all()]
        assert not bad, f"with {name}, not finite: {', '.join(bad)}"


def check_precision(make: Make, *, views: Views = 3, **part: Any) -> None:
    """Check that the loss with bfloat16 autocast is within 2 % of the loss in float32."""
    exact, half = (
        steps_of(make, views=views, **part, dtype=torch.float32, half=half)["loss 0"].item() for half in (False, True)
    )
    assert abs(half - exact) <= 0.02 * max(abs(exact), 1.0), f"in bfloat16 the loss is {half}, in float32 {exact}"


def check_training(make: Make, *, views: Views = 3, **part: Any) -> None:
    """Check that a hundred steps with the term and InfoNCE lower the loss and do not collapse the vectors.

    The effective rank of the vectors must be more than half of that after a hundred steps of InfoNCE alone. Without a
    positive there is no InfoNCE: the term trains alone, and only its loss is checked.
    """
    roles = roles_of(views)
    contrasted = "positive" in roles
    found = steps_of(make, views=views, **part, more={"another": InfoNCE(0.05)} if contrasted else {}, **HUNDRED)
    losses = [found[f"loss {step}"].item() for step in range(100)]
    start, end = sum(losses[:10]) / 10, sum(losses[-10:]) / 10
    assert end < start, f"a hundred steps took the loss from {start:.3f} to {end:.3f}"
    if contrasted:
        rank, least = found["rank"].item(), _usual_rank(roles) / 2
        assert rank > least, f"after a hundred steps the vectors have an effective rank of {rank:.1f}, below {least:.1f}"


@cache
def _usual_rank(roles: tuple[str, ...]) -> float:
    """Return the effective rank of the vectors after a hundred steps of InfoNCE alone."""
    return steps_of(USUAL, views=roles, **HUNDRED)["rank"].item()


class _Noise(Term):
    """A term that draws, and whose gradient is too small to matter."""

    def forward(self, step: Step) -> Tensor:
        return 1e-30 * torch.rand(()) * step.vectors_BVD.sum()


def _work(rank: int, make: Make, views: Views, part: dict[str, Any], folder: str) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    found = steps_of(make, views=views, rank=rank, processes=2, **part)
    if rank == 0:
        torch.save(found, Path(folder) / "two.pt")
    dist.destroy_process_group()


def _loss(found: Tensor | tuple[Tensor, dict[str, Tensor]]) -> Tensor:
    return found[0] if isinstance(found, tuple) else found


def _assert_same(ours: dict[str, Tensor], expected: dict[str, Tensor], under: str) -> None:
    """Check that all entries are equal, relative to their largest number or to a thousandth of the largest of all."""
    scale = max((float(value.abs().max()) for name, value in expected.items() if "." in name and value.numel()), default=1.0)
    for name, value in expected.items():
        if name in ours and value.is_floating_point() and value.numel():
            error = float((ours[name] - value).abs().max() / value.abs().max().clamp(min=1e-3 * scale))
            assert error < EXACT, f"under {under}, {name} has a relative error of {error:.1e}"
        else:
            assert name in ours and torch.equal(ours[name], value), f"under {under}, {name} differs"
