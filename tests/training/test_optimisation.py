"""Clipping the gradient, by its norm and by its numbers, against the formula; an optimiser that refuses an argument; a
schedule of one's own.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from simcse_lit.errors import UserError
from simcse_lit.training.optimisation import clip_gradient, optimisation
from tests.conftest import Cli, metrics, train_config

TRAINER: Any = SimpleNamespace(precision_plugin=SimpleNamespace(), strategy=None)


def with_gradient(*values: float) -> tuple[nn.Parameter, Optimizer]:
    parameter = nn.Parameter(torch.zeros(len(values), dtype=torch.float64))
    parameter.grad = torch.tensor(values, dtype=torch.float64)
    return parameter, torch.optim.SGD([parameter], lr=1.0)


def clipped(limit: float | None, *, by_value: bool = False, measure: bool = True) -> tuple[list[float], Any]:
    parameter, optimizer = with_gradient(3.0, -4.0)
    norm = clip_gradient(TRAINER, optimizer, limit, by_value=by_value, measure=measure)
    assert parameter.grad is not None
    return parameter.grad.tolist(), norm


def test_a_norm_above_the_limit_is_scaled_to_it_and_returned_as_it_was() -> None:
    gradient, norm = clipped(1.0, measure=False)
    assert gradient == pytest.approx([0.6, -0.8], abs=1e-6)
    assert float(norm) == 5.0


def test_a_norm_below_the_limit_is_left_alone() -> None:
    assert clipped(6.0)[0] == [3.0, -4.0]


@pytest.mark.parametrize("limit", [None, 0.0])
def test_without_a_limit_the_norm_is_only_measured(limit: float | None) -> None:
    gradient, norm = clipped(limit)
    assert (gradient, float(norm)) == ([3.0, -4.0], 5.0)
    assert clipped(limit, measure=False) == ([3.0, -4.0], None)


def test_each_number_is_clipped_by_value() -> None:
    gradient, norm = clipped(3.5, by_value=True)
    assert (gradient, float(norm)) == ([3.0, -3.5], 5.0)


def test_an_optimiser_that_refuses_an_argument_is_named_before_anything_is_loaded() -> None:
    with pytest.raises(UserError, match=r"optimizer: torch\.optim\.AdamW: .*betta"):
        optimisation(train_config("model=tiny", "+optimizer.extra.betta=1").optimizer)


class Sawtooth(LambdaLR):
    """The rate falls from the optimiser's to 0 in `teeth` equal parts of the run."""

    def __init__(self, optimizer: Optimizer, steps: int, warmup_steps: int, teeth: int) -> None:
        self.warmup_steps = warmup_steps
        super().__init__(optimizer, lambda step: 1 - step * teeth % steps / steps)


class Unreadable(Sawtooth):
    """Its state holds an object of a class."""

    def __init__(self, optimizer: Optimizer, steps: int, warmup_steps: int) -> None:
        self.noted = SimpleNamespace()
        super().__init__(optimizer, steps, warmup_steps, 1)


class Stumbling(Sawtooth):
    """Fails in the middle of the run."""

    def __init__(self, optimizer: Optimizer, steps: int, warmup_steps: int) -> None:
        super().__init__(optimizer, steps, warmup_steps, 1)
        self.lr_lambdas = [lambda step: 1 / (steps // 2 - step)]


def not_a_schedule(optimizer: Optimizer, steps: int, warmup_steps: int) -> Optimizer:
    return optimizer


def of(name: str, **arguments: Any) -> str:
    """The override of the command line that names a schedule of this file."""
    own = "".join(f",{key}:{value}" for key, value in arguments.items())
    return f"optimizer.schedule={{_target_:{__name__}.{name}{own}}}"


def test_weight_decay_leaves_alone_what_it_is_told_to_whatever_its_rate() -> None:
    made = optimisation(train_config("optimizer.lr=0.1", "optimizer.weight_decay=0.5").optimizer)
    weights = [nn.Parameter(torch.ones(1)) for _ in range(4)]
    optimizer = made.configured({1.0: weights[:2], 2.0: weights[2:]}, 8, [weights[1], weights[3], None])["optimizer"]
    for weight in weights:
        weight.grad = torch.zeros(1)
    optimizer.step()
    assert [weight.item() for weight in weights] == [pytest.approx(0.95), 1.0, pytest.approx(0.9), 1.0]


def test_a_schedule_of_ones_own_is_given_the_optimiser_and_the_steps() -> None:
    made = optimisation(train_config(of("Sawtooth", teeth=2), "optimizer.lr=1.0", "optimizer.warmup_ratio=0.25").optimizer)
    configured = made.configured({1.0: [nn.Parameter(torch.zeros(1))]}, 8)
    schedule, rates = configured["lr_scheduler"]["scheduler"], []
    for _ in range(8):
        rates.append(configured["optimizer"].param_groups[0]["lr"])
        configured["optimizer"].step()
        schedule.step()
    assert rates == [1.0, 0.75, 0.5, 0.25] * 2
    assert schedule.warmup_steps == 2


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (of("Sawtooth"), r"optimizer\.schedule\.teeth: has no value, but Sawtooth needs one"),
        (of("Sawtooth", teth=2), r"optimizer\.schedule\.teth: Sawtooth takes no such argument\. Did you mean teeth\?"),
        (of("Swatooth"), r"optimizer\.schedule\._target_=.*Swatooth: cannot be imported"),
        ("optimizer.schedule={teeth:2}", r"optimizer\.schedule\._target_: has no value"),
        (
            "optimizer.schedule={_target_:torch.optim.lr_scheduler.StepLR,step_size:3}",
            r"StepLR: takes no argument steps and no argument warmup_steps, but is called with optimizer, steps",
        ),
        (of("not_a_schedule"), r"not_a_schedule: must make a torch\.optim\.lr_scheduler\.LRScheduler, not a AdamW"),
        (of("Stumbling"), r"Stumbling: division by zero"),
        (of("Unreadable"), r"Unreadable: its state_dict\(\) may hold only numbers"),
    ],
)
def test_a_schedule_that_cannot_be_used_is_named_before_anything_is_loaded(node: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        optimisation(train_config("model=tiny", node).optimizer)


def test_a_run_logs_the_rates_of_its_own_schedule(warm_cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "lab.py").write_text(
        "from torch.optim.lr_scheduler import LambdaLR\n"
        "def halves(optimizer, steps, warmup_steps):\n"
        "    return LambdaLR(optimizer, lambda step: 0.5**step)\n"
    )
    settings = ("model=tiny", "data=samples", "trainer=cpu", "senteval.from_hub=false", "tasks=[]", "tasks@dev=samples-dev")
    short = (
        "data.batch_size=32",
        "trainer.log_every_n_steps=1",
        "evaluation.before=false",
        "analyses=[]",
        "optimizer.lr=1e-3",
    )
    own = "optimizer.schedule={_target_:lab.halves}"
    environment = {"PYTHONPATH": str(tmp_path)}
    run = ("hydra.run.dir=run", "trainer.max_steps=4", "trainer.val_check_interval=2")
    done = warm_cli(*settings, *short, own, *run, env=environment)
    assert done.returncode == 0, done.stderr
    assert "lr 0.001 halves, " in done.stdout
    logged = metrics(tmp_path / "run")
    assert next(rates for name, rates in logged.items() if name.startswith("lr-")) == pytest.approx(
        [1e-3, 5e-4, 2.5e-4, 1.25e-4]
    )
