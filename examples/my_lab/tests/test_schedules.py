"""The rates of Triangular, computed by hand."""

import pytest
import torch
from my_lab.schedules import Triangular


def test_two_cycles_of_eight_steps() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = Triangular(optimizer, steps=8, warmup_steps=0, cycles=2)
    rates = []
    for _ in range(8):
        rates += schedule.get_last_lr()
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([0, 0.5, 1, 0.5] * 2)
