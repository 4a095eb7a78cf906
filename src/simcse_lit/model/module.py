"""SimCSEModule: the LightningModule that owns the contrastive objective and its optimisation.

Shapes: B examples, V views, L length, N = B x V sentences, H hidden.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import Optimizer
from transformers import PreTrainedTokenizerFast, get_scheduler

from simcse_lit.config.schema import AdapterConfig, LossConfig, ModelConfig, OptimizerConfig
from simcse_lit.evaluation.analyses import Analysis
from simcse_lit.evaluation.embeddings import Embeddings
from simcse_lit.evaluation.suite import Suite, averages, unique_sentences
from simcse_lit.model.chunking import encode_in_chunks
from simcse_lit.model.encoder import SentenceEncoder
from simcse_lit.objective.contrastive import contrastive_logits, contrastive_loss
from simcse_lit.objective.mlm import mask_tokens, mlm_loss

Batch = dict[str, Tensor]

CHECKPOINT_SECTION = "simcse"  # of a Lightning checkpoint


class SimCSEModule(pl.LightningModule):
    """Trains an encoder with the SimCSE objective and scores it on STS.

    Args:
        encoder: the sentence encoder.
        tokenizer: names the mask token and the special tokens, for the MLM objective.
        suite: validation and test tasks; the data module must serve the same.
        analyses: what is measured on the development set beside its score.
        model: the group `model` of `conf/`, recorded in checkpoints.
        adapter: the group `adapter`, of which `encoder` was made; recorded too.
        loss: the group `loss` of `conf/`.
        optimizer: makes the optimiser from an iterable of parameters.
        schedule: the group `optimizer` of `conf/`, for the learning-rate schedule.
        length_chunks: encode a step's sentences in chunks of like length (`chunking.py`).
    """

    def __init__(
        self,
        encoder: SentenceEncoder,
        tokenizer: PreTrainedTokenizerFast,
        suite: Suite,
        *,
        analyses: Sequence[Analysis],
        model: ModelConfig,
        adapter: AdapterConfig,
        loss: LossConfig,
        optimizer: Callable[[Iterable[Tensor]], Optimizer],
        schedule: OptimizerConfig,
        length_chunks: bool,
    ) -> None:
        super().__init__()
        self._special_ids: Tensor
        self.encoder = encoder
        self.loss_config = loss
        self.length_chunks = length_chunks
        self._optimizer = optimizer
        self._schedule = schedule
        self._suite = suite
        self._analyses = analyses
        self._embeddings: Embeddings | None = None
        self.untrained = False  # set while the encoder is scored before training: then without its random projection
        self.test_scores: dict[str, float] = {}
        self._mask_token_id = tokenizer.mask_token_id
        self._vocab_size = len(tokenizer)
        self._model = model
        self._adapter = adapter
        self.register_buffer("_special_ids", torch.tensor(tokenizer.all_special_ids), persistent=False)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Record how the encoder was made and is read, so that a checkpoint can be scored wherever it lies."""
        checkpoint[CHECKPOINT_SECTION] = {
            "model": asdict(self._model),
            "adapter": asdict(self._adapter),
            "pooler": self.encoder.pooler,
            "projection": self.encoder.projection_name,
        }

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch of `input_ids` and `attention_mask`, (B, V, L). SimCSE equations 4 and 5, section 6.1."""
        input_ids_NL = batch["input_ids"].flatten(0, 1)
        attention_mask_NL = batch["attention_mask"].flatten(0, 1)
        if self.length_chunks:
            vectors_NH = encode_in_chunks(self.encoder, input_ids_NL, attention_mask_NL)
        else:
            vectors_NH = self.encoder(input_ids_NL, attention_mask_NL)
        logits_BN = contrastive_logits(
            *vectors_NH.unflatten(0, batch["input_ids"].shape[:2]).unbind(1),
            temperature=self.loss_config.temperature,
            hard_negative_weight=self.loss_config.hard_negative_weight,
        )
        loss = contrastive_loss(logits_BN)
        if self.loss_config.mlm_weight:
            mlm = self._mlm(input_ids_NL, attention_mask_NL)
            self.log_dict({"train/contrastive_loss": loss, "train/mlm_loss": mlm})
            loss = loss + self.loss_config.mlm_weight * mlm
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def _mlm(self, input_ids_NL: Tensor, attention_mask_NL: Tensor) -> Tensor:
        """The auxiliary loss over the tokens of all views, each view with a mask of its own."""
        maskable_NL = attention_mask_NL.bool() & ~torch.isin(input_ids_NL, self._special_ids)
        corrupted_NL, labels_NL = mask_tokens(
            input_ids_NL,
            maskable_NL,
            mask_token_id=self._mask_token_id,
            vocab_size=self._vocab_size,
            probability=self.loss_config.mlm_probability,
        )
        return mlm_loss(self.encoder.mlm_logits(corrupted_NL, attention_mask_NL), labels_NL)

    def configure_optimizers(self) -> Any:
        """The optimiser over every trainable parameter, and the schedule over all steps."""
        optimizer = self._optimizer(parameter for parameter in self.parameters() if parameter.requires_grad)
        steps = int(self.trainer.estimated_stepping_batches)
        name = self._schedule.schedule
        scheduler = get_scheduler(
            "constant_with_warmup" if name == "constant" else name,
            optimizer,
            num_warmup_steps=round(self._schedule.warmup_ratio * steps),
            num_training_steps=steps,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_validation_epoch_start(self) -> None:
        """Make room for the vectors of the development sentences."""
        self._embeddings = Embeddings(unique_sentences([self._suite.dev]))

    def on_test_epoch_start(self) -> None:
        """Make room for the vectors of all test sentences."""
        self._embeddings = Embeddings(unique_sentences(self._suite.test))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Encode a batch of unique sentences, (N, L)."""
        assert self._embeddings is not None
        embed = self.encoder.pooled if self.untrained else self.encoder.embed
        self._embeddings.add(batch["index"], embed(batch["input_ids"], batch["attention_mask"]))

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """As in validation."""
        self.validation_step(batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        """Log the development score as `val/sts`, on which the best checkpoint is chosen, and what the analyses measure."""
        assert self._embeddings is not None
        dev = self._suite.dev
        self.log("val/sts", dev.score(self._embeddings).score, prog_bar=True)
        for analysis in self._analyses:
            measured = analysis.compute(dev, self._embeddings)
            self.log_dict({f"val/{name}": value for name, value in measured.items() if isinstance(value, float)})
        self._embeddings = None

    def on_test_epoch_end(self) -> None:
        """Score the test tasks; log each, and the averages, under `test/` (or `before/`)."""
        assert self._embeddings is not None
        self.test_scores = {task.name: task.score(self._embeddings).score for task in self._suite.test}
        self.test_scores |= averages(self._suite.test, self.test_scores)
        self._embeddings = None
        stage = "before" if self.untrained else "test"
        self.log_dict({f"{stage}/{name}": score for name, score in self.test_scores.items()})
