"""GELU's outputs are not kept for the backward pass, and no gradient changes by a bit."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.objective.recompute import recomputed_gelu
from simcse_lit.training import gradient_cache
from simcse_lit.training.chunking import encode_in_chunks, plan
from tests.conftest import ragged_batch, small_bert

LENGTHS = [4, 12, 4, 30, 7, 12, 3]
Context = Callable[[], AbstractContextManager[object]]


def gradients(context: Context, monkeypatch: pytest.MonkeyPatch, precision: torch.dtype, packed: bool) -> list[Tensor]:
    """Of every parameter of a small BERT with dropout, whose passes are made in `context`."""
    monkeypatch.setattr(gradient_cache, "recomputed_gelu", context)
    torch.manual_seed(0)
    encoder = SentenceEncoder(small_bert(), "avg", "mlp").float().train()
    ids, mask = ragged_batch(LENGTHS)
    chunks = plan(mask, by_length=not packed, limit=None, overhead=0, packed=packed)
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        vectors_NH = encode_in_chunks(encoder, ids, mask, chunks)
    (vectors_NH.float() ** 2 * torch.arange(vectors_NH.numel()).view_as(vectors_NH)).sum().backward()
    found = [parameter.grad for parameter in encoder.parameters() if parameter.grad is not None]
    assert len(found) == len(list(encoder.parameters()))
    return found


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("packed", [False, True], ids=["in chunks", "packed"])
def test_the_gradient_is_the_same_to_the_last_bit(
    monkeypatch: pytest.MonkeyPatch, precision: torch.dtype, packed: bool
) -> None:
    entered: list[None] = []

    def recomputed() -> AbstractContextManager[object]:
        entered.append(None)
        return recomputed_gelu()

    kept = gradients(nullcontext, monkeypatch, precision, packed)
    found = gradients(recomputed, monkeypatch, precision, packed)
    assert entered, "the context was never entered"
    assert all(torch.equal(one, other) for one, other in zip(found, kept, strict=True))


@pytest.mark.parametrize("context", [recomputed_gelu, nullcontext])
def test_what_gelu_returned_is_gone_after_the_forward_pass(monkeypatch: pytest.MonkeyPatch, context: Context) -> None:
    monkeypatch.setattr(gradient_cache, "recomputed_gelu", context)
    encoder = SentenceEncoder(small_bert(), "avg", "none").train()
    ids, mask = ragged_batch(LENGTHS)
    outputs: list[StorageWeakRef] = []

    def note(module: nn.Module, arguments: object, output: Tensor) -> None:
        outputs.append(StorageWeakRef(output.untyped_storage()))

    activations = [module for name, module in encoder.named_modules() if name.endswith("intermediate_act_fn")]
    for activation in activations:
        activation.register_forward_hook(note)
    chunks = plan(mask, by_length=True, limit=None, overhead=0)
    vectors_NH = encode_in_chunks(encoder, ids, mask, chunks)
    assert len(outputs) == len(chunks) * len(activations) == len(chunks) * 3
    assert {storage.expired() for storage in outputs} == {context is recomputed_gelu}
    vectors_NH.sum().backward()


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_a_gradient_of_a_gradient_too(approximate: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.GELU(approximate), nn.Linear(8, 2)).double()
    inputs = torch.randn(2, 5, 3, dtype=torch.double, requires_grad=True)

    def outputs(inputs: Tensor) -> Tensor:
        with recomputed_gelu():
            result: Tensor = model(inputs)
        return result

    assert torch.autograd.gradcheck(outputs, inputs)
    assert torch.autograd.gradgradcheck(outputs, inputs)


def test_nothing_that_is_kept_holds_itself() -> None:
    weight = torch.randn(4, 4, requires_grad=True)
    with recomputed_gelu():
        shares = torch.softmax(torch.randn(3, 4) @ weight, -1)  # whose node keeps its output
        total = shares.exp().sum()
    storage = StorageWeakRef(shares.untyped_storage())
    del shares, total
    assert storage.expired()
