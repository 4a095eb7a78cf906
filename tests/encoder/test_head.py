"""Heads: what a package may bring, what is checked, and batch normalisation over all processes."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.encoder.head import BatchNorm, head
from simcse_lit.errors import UserError
from simcse_lit.testing import check_head
from tests.encoders import ragged_batch, small_bert

LENGTHS = [4, 12, 4, 30, 7, 12, 3]


class Projector(nn.Module):
    """Two layers with batch normalisation, as in SimSiam."""

    def __init__(self, width: int, wide: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, wide), BatchNorm(wide), nn.ReLU(), nn.Linear(wide, width))

    def forward(self, pooled_ND: Tensor) -> Tensor:
        projected_ND: Tensor = self.layers(pooled_ND)
        return projected_ND


class OfRows(nn.Module):
    """Takes the mean of the rows that it is given: wrong, where rows come in parts."""

    def __init__(self, width: int) -> None:
        super().__init__()

    def forward(self, pooled_ND: Tensor) -> Tensor:
        return pooled_ND - pooled_ND.mean(0)


def node(kind: type, **more: Any) -> dict[str, Any]:
    return {"name": "mine", "_target_": f"{__name__}.{kind.__name__}", "when": "training", **more}


def test_a_head_with_batch_normalisation_holds_everything_that_is_checked() -> None:
    check_head(node(Projector, wide=48))


def test_the_check_finds_a_head_whose_statistics_are_those_of_one_process() -> None:
    with pytest.raises(AssertionError, match=r"under two processes, .* has a relative error"):
        check_head(node(OfRows))


def test_batch_norm_is_that_of_torch() -> None:
    torch.manual_seed(0)
    ours, theirs = BatchNorm(8).double(), nn.BatchNorm1d(8).double()
    for _ in range(3):
        batch = (torch.randn(16, 8, dtype=torch.float64) * 3 + 1).requires_grad_()
        expected = theirs(batch)
        torch.testing.assert_close(ours(batch), expected, rtol=0, atol=1e-12)
        weights = torch.randn_like(expected)
        for found, right in zip(
            torch.autograd.grad((ours(batch) * weights).sum(), [batch, *ours.parameters()]),
            torch.autograd.grad((theirs(batch) * weights).sum(), [batch, *theirs.parameters()]),
            strict=True,
        ):
            torch.testing.assert_close(found, right, rtol=0, atol=1e-11)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(batch), theirs.eval()(batch), rtol=0, atol=1e-12)


def test_a_head_is_for_training_or_for_always_as_its_node_says() -> None:
    ids, mask = ragged_batch(LENGTHS)
    for when in ("training", "always"):
        encoder = SentenceEncoder(small_bert(), "avg", head({**node(Projector, wide=48), "when": when})).double().eval()
        pooled = encoder.pooled(ids, mask)
        assert not torch.equal(encoder(ids, mask), pooled)
        assert torch.equal(encoder.embed(ids, mask), pooled) == (when == "training")
        assert encoder.record() == {
            "pooler": "avg",
            "projection": "mine",
            "parts": {"projection": {"arguments": {"wide": 48, "when": when}, "package": "tests"}},
        }


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "linear"}, "projection.name=linear: not one of mlp, mlp_train_only, none"),
        ({"name": "mlp_train"}, r"Did you mean .*mlp_train_only"),
        ({}, "projection.name=None: must be a name"),
        (node(Projector), "projection.wide: has no value"),
        (node(Projector, wide=48, deep=3), "projection.deep: Projector takes no such argument"),
        ({**node(OfRows), "when": "never"}, "projection.when=never: must be training, or always"),
        ({"name": "none", "width": 3}, "projection.width: none takes no arguments"),
        (
            {"name": "mine", "_target_": "nowhere.Head", "when": "always"},
            "projection._target_=nowhere.Head: cannot be",
        ),
    ],
)
def test_a_wrong_node_is_told_with_its_key(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        head(given)


class NoModule:
    def __init__(self, width: int) -> None:
        self.width = width


def test_what_is_no_module_is_refused() -> None:
    wrong = head(node(NoModule))
    with pytest.raises(UserError, match=r"projection\._target_=.*NoModule: is not a torch\.nn\.Module"):
        wrong.make(8)
