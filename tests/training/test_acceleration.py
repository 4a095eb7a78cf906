"""What makes training fast changes no result: fused AdamW behind a loss scaler, and compiling with dynamic shapes."""

from functools import partialmethod
from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning.plugins.precision import MixedPrecision
from torch import nn
from torch._dynamo.utils import counters

from simcse_lit.training.build import build
from simcse_lit.training.gradient_cache import Chunk
from simcse_lit.training.module import SimCSEModule
from tests.conftest import train_config
from tests.encoders import ragged_batch


def updated(*, scaled: bool, fused: bool) -> torch.Tensor:
    """A weight after one step with its gradient clipped to 0.5, through Lightning's precision plugin or without a scaler."""
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(6))
    optimizer = torch.optim.AdamW([weight], lr=0.1, fused=fused)
    loss = (weight * torch.arange(6)).sum()
    if not scaled:
        loss.backward()
        nn.utils.clip_grad_norm_([weight], 0.5)
        optimizer.step()
        return weight.detach()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    plugin = MixedPrecision("16-mixed", "cpu", scaler)
    scaler.scale(loss).backward()
    trainer = SimpleNamespace(strategy=None, precision_plugin=plugin)
    module = SimpleNamespace(trainer=trainer, _is_logged=False)
    SimCSEModule.configure_gradient_clipping(module, optimizer, 0.5, None)  # type: ignore[arg-type]
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad.norm(), torch.tensor(0.5))
    scaler.step(optimizer)
    return weight.detach()


def test_a_fused_optimizer_behind_a_scaler_is_clipped_and_steps_as_without_one() -> None:
    torch.testing.assert_close(updated(scaled=True, fused=True), updated(scaled=False, fused=False))


def test_fused_adamw_is_the_default_and_makes_the_same_update() -> None:
    assert train_config().optimizer.extra["fused"] is True
    torch.testing.assert_close(updated(scaled=False, fused=True), updated(scaled=False, fused=False))


def test_compiling_gives_the_same_vectors_and_compiles_no_length_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    # The graph is the same, but no code is generated from it, which would take a minute.
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend="eager"))
    settings = ("model=tiny", "data=samples", "senteval.dir=null", "senteval.from_hub=false")
    plain = build(train_config(*settings)).module
    compiled = build(train_config(*settings, "trainer.compile=default")).module
    compiled.load_state_dict(plain.state_dict())
    counters.clear()
    torch.compiler.reset()  # what other tests have compiled
    graphs = []
    for lengths in ([9, 4, 3], [12, 7], [5, 5, 5, 5, 2], [30], [8, 6, 3, 3]):
        batch = ragged_batch(lengths)
        with torch.no_grad():
            expected = plain.eval().encoder.embed(*batch)
        torch.testing.assert_close(compiled.eval().encoder.embed(*batch), expected, rtol=0, atol=1e-5)
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs == [1, 1, 1, 2, 2], "one graph for all shapes, and one for a chunk of a single sentence"


def test_both_of_two_encoders_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend="eager"))
    module = build(
        train_config(
            "model=tiny",
            "data=samples",
            "senteval.dir=null",
            "senteval.from_hub=false",
            "trainer.compile=default",
            "loss.encoders=2",
        )
    ).module
    assert module.second_encoder is not None
    for encoder in (module.encoder, module.second_encoder):
        counters.clear()
        torch.compiler.reset()
        encoder.eval().embed(*ragged_batch([9, 4, 3]))
        assert counters["stats"]["unique_graphs"] == 1


def test_a_chunk_moves_with_its_rows() -> None:
    moved = Chunk(torch.tensor([2, 0]), 7).to(torch.device("meta"))
    assert (moved.rows_n.device.type, moved.longest) == ("meta", 7)
