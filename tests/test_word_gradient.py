"""Where the gradient of the word embeddings is summed as rows, the weights after training are those without it."""

from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from simcse_lit.config.schema import TrainConfig
from simcse_lit.model.word_gradient import WordGradient
from simcse_lit.train import build

from .conftest import train_config

CHUNKS = (
    *("model=tiny", "data=samples", "data.batch_size=16", "senteval.dir=null", "senteval.from_hub=false"),
    *("trainer.length_chunks=always", "trainer.chunk_overhead=1"),
)


class Layouts(pl.Callback):
    """Of the word embeddings' gradient, what autograd gave and what anyone sees after the backward pass."""

    def __init__(self) -> None:
        self.given: list[bool] = []
        self.seen: list[bool] = []

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        self.weight = module.encoder.backbone.get_input_embeddings().weight
        if self.weight.requires_grad:
            self.weight.register_hook(lambda gradient: self.given.append(gradient.is_sparse))

    def on_after_backward(self, *_: Any) -> None:
        if self.weight.grad is not None:
            self.seen.append(self.weight.grad.is_sparse)


def trained(config: TrainConfig) -> tuple[list[Tensor], Layouts]:
    """Weights after two steps."""
    torch.manual_seed(0)
    module, data = build(config)
    data.prepare_corpus()
    layouts = Layouts()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=2,
        gradient_clip_val=1.0,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[layouts],
    )
    module.train()
    trainer.fit(module, data)
    assert not module.encoder.backbone.get_input_embeddings().sparse, "another loop would train it as ever"
    return [parameter.detach() for parameter in module.parameters()], layouts


@pytest.mark.parametrize(
    ("overrides", "rows"),
    [
        (["loss=sup"], True),
        (["loss=sup", "trainer.micro_batch_size=4"], True),
        (["loss=unsup", "loss.encoders=2"], True),
        (["loss=unsup", "loss.mlm_weight=0.1"], False),  # the head that is tied to them has a dense gradient
        (["loss=sup", "adapter=lora"], None),  # they are frozen
    ],
    ids=["sup", "gradient cache", "two encoders", "mlm", "lora"],
)
def test_the_weights_after_training_are_the_same(
    overrides: list[str], rows: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = train_config(*CHUNKS, *overrides, "optimizer.lr=1e-3")
    ours, layouts = trained(config)
    assert layouts.given == ([] if rows is None else [rows] * 2)
    assert layouts.seen == ([] if rows is None else [False] * 2)
    monkeypatch.setattr(WordGradient, "as_rows", lambda self, wanted: None)
    plain, layouts = trained(config)
    assert True not in layouts.given
    for one, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-5)


def test_a_compiled_encoder_keeps_its_dense_gradient() -> None:
    module, _ = build(train_config(*CHUNKS, "trainer.compile=default"))
    module._word_gradient.as_rows(True)
    assert not module.encoder.backbone.get_input_embeddings().sparse
    module.encoder.compiled = False
    module._word_gradient.as_rows(True)
    assert module.encoder.backbone.get_input_embeddings().sparse
