"""AdamW of the paper's code against its formula, number by number, and against torch's with another eps."""

import io
import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pytorch_lightning.plugins.precision import MixedPrecision
from torch import Tensor, nn

from simcse_lit.errors import UserError
from simcse_lit.training.adamw_paper import AdamW
from simcse_lit.training.module import SimCSEModule
from simcse_lit.training.optimisation import optimisation
from tests.conftest import train_config

BETAS, EPS = (0.9, 0.999), 1e-8
# Beside ordinary gradients, some near eps: there the two kinds of AdamW part.
GRADIENTS = [[0.3, -2.0, 1e-8], [-0.1, 5.0, 4e-9], [0.0, 0.5, -2e-8], [1.5, -0.25, 1e-7]]


def by_the_formula(weight: float, gradients: Sequence[float], *, lr: float, decay: float = 0.0) -> float:
    """transformers 4.2, one number at a time: eps beside the root as it stands, decay behind the update."""
    mean = square = 0.0
    for step, gradient in enumerate(gradients, start=1):
        mean = BETAS[0] * mean + (1 - BETAS[0]) * gradient
        square = BETAS[1] * square + (1 - BETAS[1]) * gradient * gradient
        size = lr * math.sqrt(1 - BETAS[1] ** step) / (1 - BETAS[0] ** step)
        weight = weight - size * mean / (math.sqrt(square) + EPS)
        weight = weight - lr * decay * weight
    return weight


def parameter(*values: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(values, dtype=torch.float64))


def take(optimizer: torch.optim.Optimizer, weight: nn.Parameter, gradients: Sequence[Sequence[float]]) -> None:
    for gradient in gradients:
        weight.grad = torch.tensor(gradient, dtype=weight.dtype)
        optimizer.step()


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_every_step_is_that_of_the_formula(decay: float) -> None:
    start = (0.5, -1.0, 2.0)
    weight = parameter(*start)
    optimizer = AdamW([weight], 0.01, BETAS, EPS, decay)
    for steps in range(1, len(GRADIENTS) + 1):
        take(optimizer, weight, GRADIENTS[steps - 1 : steps])
        columns = zip(*GRADIENTS[:steps], strict=True)
        expected = [by_the_formula(w, g, lr=0.01, decay=decay) for w, g in zip(start, columns, strict=True)]
        assert weight.tolist() == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("step", [1, 10])
def test_it_is_torchs_with_an_eps_that_the_bias_correction_has_made_larger(step: int) -> None:
    larger = EPS / math.sqrt(1 - BETAS[1] ** step)
    assert larger == pytest.approx({1: 3.16e-7, 10: 1.00e-7}[step], rel=1e-2)
    gradient = [[3e-8]] * step
    moved = {}
    for name, eps in (("paper", EPS), ("larger", larger), ("torch", EPS)):
        weight = parameter(0.0)
        made = (
            AdamW([weight], 1.0, BETAS, eps, 0.0)
            if name == "paper"
            else torch.optim.AdamW([weight], 1.0, eps=eps, weight_decay=0.0)
        )
        take(made, weight, gradient[:-1])
        before = weight.item()
        take(made, weight, gradient[-1:])
        moved[name] = weight.item() - before
    assert moved["paper"] == pytest.approx(moved["larger"], rel=1e-9)
    assert abs(moved["paper"]) < 0.5 * abs(moved["torch"])


def test_each_weight_counts_its_own_steps_and_one_without_a_gradient_stays() -> None:
    first, second, idle = parameter(1.0), parameter(1.0), parameter(1.0)
    groups: list[dict[str, Any]] = [{"params": [first, idle]}, {"params": [second], "lr": 0.5}]
    optimizer = AdamW(groups, 0.1, BETAS, EPS, 0.1)
    take(optimizer, first, [[0.3]])  # the second has none yet
    second.grad = torch.tensor([0.7], dtype=torch.float64)
    take(optimizer, first, [[-0.2]])
    assert first.item() == pytest.approx(by_the_formula(1.0, [0.3, -0.2], lr=0.1, decay=0.1), rel=1e-14)
    assert second.item() == pytest.approx(by_the_formula(1.0, [0.7], lr=0.5, decay=0.1), rel=1e-14)
    assert idle.item() == 1.0


def test_a_state_that_was_saved_goes_on_bit_for_bit() -> None:
    def weights() -> list[nn.Parameter]:
        torch.manual_seed(0)
        return [nn.Parameter(torch.randn(5, 3)), nn.Parameter(torch.randn(4))]

    def steps(optimizer: AdamW, trained: list[nn.Parameter], numbers: range) -> None:
        for number in numbers:
            generator = torch.Generator().manual_seed(number)
            for weight in trained:
                weight.grad = torch.randn(weight.shape, generator=generator)
            optimizer.step()

    def of(trained: list[nn.Parameter]) -> AdamW:
        return AdamW(trained, 1e-2, BETAS, EPS, 0.01)

    whole = weights()
    steps(of(whole), whole, range(6))
    part = weights()
    stopped = of(part)
    steps(stopped, part, range(3))
    file = io.BytesIO()
    torch.save(stopped.state_dict(), file)
    file.seek(0)
    later = [nn.Parameter(weight.detach().clone()) for weight in part]
    going_on = of(later)
    going_on.load_state_dict(torch.load(file, weights_only=True))
    steps(going_on, later, range(3, 6))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(later, whole, strict=True))


def test_the_option_makes_it_with_the_papers_settings_and_the_recipes_rate() -> None:
    config = train_config("optimizer=adamw_paper", "loss=sup").optimizer
    assert (config.lr, config.weight_decay, config.schedule, config.warmup_ratio) == (5e-5, 0.0, "linear", 0.0)
    weight = parameter(1.0)
    made = optimisation(config).configured({1.0: [weight]}, 4)
    optimizer = made["optimizer"]
    assert type(optimizer) is AdamW
    (group,) = optimizer.param_groups
    assert (group["betas"], group["eps"]) == ((0.9, 0.999), 1e-8) and type(group["betas"]) is tuple
    take(optimizer, weight, [[0.5]])
    made["lr_scheduler"]["scheduler"].step()
    assert weight.item() == pytest.approx(by_the_formula(1.0, [0.5], lr=5e-5), rel=1e-14)
    assert group["lr"] == pytest.approx(5e-5 * 3 / 4)


def test_torchs_fused_adamw_stays_the_default() -> None:
    config = train_config().optimizer
    assert (config._target_, config.extra["fused"]) == ("torch.optim.AdamW", True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["+optimizer.extra.fused=true"], "fused"),
        (["optimizer.extra.betas=[0.9,1.0]"], "betas="),
        (["optimizer.extra.betas=[0.9]"], "unpack"),
        (["optimizer.extra.eps=-1"], "eps=-1"),
        (["~optimizer.extra.eps"], "eps"),
    ],
)
def test_what_it_cannot_take_is_said_before_any_work(changes: list[str], message: str) -> None:
    with pytest.raises(UserError, match=rf"optimizer: simcse_lit\.training\.adamw_paper\.AdamW: .*{message}"):
        optimisation(train_config("optimizer=adamw_paper", *changes).optimizer)


def test_a_loss_scaler_unscales_the_gradient_once_and_skips_one_that_overflowed() -> None:
    def updated(factor: float) -> Tensor:
        weight = parameter(1.0, 2.0)
        optimizer = AdamW([weight], 0.1, BETAS, EPS, 0.0)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        plugin = MixedPrecision("16-mixed", "cpu", scaler)
        scaler.scale((weight * factor).sum()).backward()
        scaler.unscale_(optimizer)  # as Lightning does in front of clipping, but for an optimiser that does it itself
        trainer = SimpleNamespace(strategy=None, precision_plugin=plugin)
        module = SimpleNamespace(trainer=trainer, _is_logged=False)
        SimCSEModule.configure_gradient_clipping(module, optimizer, 0.5, None)  # type: ignore[arg-type]
        scaler.step(optimizer)
        return weight.detach()

    clipped = 0.5 / math.sqrt(2)
    expected = [by_the_formula(start, [clipped], lr=0.1) for start in (1.0, 2.0)]
    assert updated(3.0).tolist() == pytest.approx(expected, rel=1e-6)
    assert updated(math.inf).tolist() == [1.0, 2.0]
