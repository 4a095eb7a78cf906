"""SimCSEModule: the LightningModule with the contrastive objective and its optimisation.

Shapes: B examples, V views, L length, N = B x V sentences, H hidden, D numbers of a vector after the head, C candidates.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import GradClipAlgorithmType
from torch import Tensor, nn
from torch.optim import Optimizer

from simcse_lit.data.datamodule import SimCSEDataModule
from simcse_lit.distributed import mean_over_ranks
from simcse_lit.encoder.encoder import CHECKPOINT_SECTION, SentenceEncoder
from simcse_lit.errors import UserError
from simcse_lit.objective.contrastive import similarities
from simcse_lit.objective.mlm import mlm_counts
from simcse_lit.objective.step import Step
from simcse_lit.objective.term import Objective
from simcse_lit.seeds import derived_seed
from simcse_lit.training.beside import Beside, follow
from simcse_lit.training.callbacks import last_good
from simcse_lit.training.chunking import Chunking
from simcse_lit.training.gradient_cache import Chunk
from simcse_lit.training.optimisation import Optimisation, clip_gradient
from simcse_lit.training.scoring import Scorer
from simcse_lit.training.step_passes import encode_views, exact, passes_of
from simcse_lit.training.trainer import check_trainer
from simcse_lit.views.makers import DeviceMaker, on_device

Batch = dict[str, Any]  # tensors, and a training batch's chunks


class SimCSEModule(pl.LightningModule):
    """Trains an encoder with the SimCSE objective and scores it on STS.

    Args:
        encoder: the sentence encoder.
        objective: the loss, set up for this encoder.
        chunking: how a step's sentences are encoded.
        optimisation: optimiser and schedule.
        scorer: validation and test tasks.
        made_of: stored in checkpoints: the group `model` of `conf/`, the adapter, and the development task that selects the
            best checkpoint.
        seed: decides, with step and rank, the random draws of a training step: dropout and MLM masks.
        roles: roles of the views of an example, in the order of a batch (`config/roles.py`).
        fixed_dropout: use one dropout mask for all views of a sentence (Table 3).
        second_encoder: encodes positives and hard negatives in training (Table 2); None for `encoder`. Only `encoder` is
            scored.
        beside: encoders beside `encoder`, by the names that terms use.
        makers: makers that change tokens of a view in the step, by number of the view.
    """

    def __init__(
        self,
        encoder: SentenceEncoder,
        objective: Objective,
        *,
        chunking: Chunking,
        optimisation: Optimisation,
        scorer: Scorer,
        made_of: Mapping[str, Any],
        seed: int,
        roles: tuple[str, ...],
        fixed_dropout: bool = False,
        second_encoder: SentenceEncoder | None = None,
        beside: Mapping[str, Beside] | None = None,
        makers: Mapping[int, Sequence[DeviceMaker]] | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.second_encoder = second_encoder
        self.beside = nn.ModuleDict(dict(beside or {}))
        self.makers = dict(makers or {})
        self.objective = objective
        self.fixed_dropout = fixed_dropout
        self.chunking = chunking
        self.optimisation = optimisation
        self.scorer = scorer
        self.made_of = made_of
        self.seed = seed
        self.roles = roles
        self.untrained = False  # True while the untrained encoder is scored, without its random projection
        self.logs_validation = True  # False while the best weights are validated again
        self.dev_scores: dict[str, float] = {}
        self.test_scores: dict[str, float] = {}
        self._step: Step | None = None  # the current step, until the optimiser has stepped

    @property
    def trains_language_model(self) -> bool:
        """Whether the run is for the language model and not for sentence vectors: it is validated on held-out text."""
        return self.scorer.suite.dev is None

    def setup(self, stage: str) -> None:
        """See that the trainer, which may be the user's own, can be used.

        Raises:
            UserError: it cannot.
        """
        if stage == "fit":
            data = getattr(self.trainer, "datamodule", None)
            check_trainer(self.trainer, data.config if isinstance(data, SimCSEDataModule) else None)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Let the batches of a training that is continued start behind those that the checkpoint has seen."""
        data = getattr(self._trainer, "datamodule", None)
        if isinstance(data, SimCSEDataModule) and self.trainer.state.fn == "fit":
            data.done = checkpoint["global_step"]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Record how to rebuild and use the encoder, so that the checkpoint can be scored anywhere."""
        language_model = {"language_model": True} if self.trains_language_model else {}
        checkpoint[CHECKPOINT_SECTION] = {**self.made_of, **language_model, **self.encoder.record()}

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed the step by seed, step and rank: a resumed run draws the same numbers, every rank different ones."""
        torch.manual_seed(derived_seed(self.seed, self.global_step, self.global_rank))

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Plan the chunks of a training batch while it is in host memory, so that no GPU is waited for."""
        if batch["input_ids"].ndim == 2:  # sentences to score
            return batch
        return batch | {"chunks": self.chunking.plan(batch["attention_mask"])}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Compute the loss of this process's rows of a batch.

        Args:
            batch: `input_ids` and `attention_mask`, (B, V, L), and `chunks`.
            batch_idx: number of the batch in the epoch.

        Returns:
            Scalar, in nats.
        """
        mask_BVL = batch["attention_mask"]
        ids_BVL = on_device(self.makers, batch["input_ids"], mask_BVL)
        if self.objective.reads_vectors:
            pooled_BVH, vectors_BVD = map(exact, self._views(ids_BVL, mask_BVL, batch["chunks"]))
        else:
            pooled_BVH = vectors_BVD = torch.zeros(*mask_BVL.shape[:2], 0, device=mask_BVL.device)
        beside, others = cast(Mapping[str, Beside], self.beside), batch.get("others", {})
        passes = passes_of(self.encoder, beside, self.chunking, ids_BVL, mask_BVL, batch["chunks"], others)
        given, extras = (ids_BVL, mask_BVL, pooled_BVH, vectors_BVD), batch.get("extras", {})
        self._step = Step(*given, self.global_step, self._total_steps, self.seed, passes, self.roles, extras)
        loss: Tensor
        loss, terms = self.objective(self._step)
        if self._is_logged and self.objective.reads_vectors and self._step.places("positive"):
            places = [*self._step.places("positive"), *self._step.places("hard_negative")]
            candidates = [self._step.gather(vectors_BVD[:, place].detach()) for place in places]
            present_BV = self._step.extras.get("present", torch.ones_like(ids_BVL[..., 0]))
            present_C = self._step.gather(present_BV[:, places].long()).T.flatten()
            self._log_cosines(self._step.of("anchor"), candidates, present_C.bool(), self._step.first)
        for name, value in terms.items():
            self._log_loss(f"train/loss/{name}", value)
        self._log_loss("train/loss", loss)
        return loss

    @cached_property
    def _total_steps(self) -> int:
        """Steps of the run; 0 without a trainer."""
        return 0 if self._trainer is None else int(self.trainer.estimated_stepping_batches)

    def optimizer_step(self, *arguments: Any, **more: Any) -> None:
        """Take a step, then call `after_step` unless the scaler skipped the step because its gradient overflowed."""
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        scale = scaler and scaler.get_scale()
        super().optimizer_step(*arguments, **more)
        if scaler is None or scaler.get_scale() >= scale:
            self.after_step()
        self._step = None

    def after_step(self) -> None:
        """Let the encoders beside the trained one follow it, then let the terms update their state."""
        if self._step is not None:
            follow(cast(Any, self.beside), self.encoder)
            self.objective.after_step(self._step)

    @property
    def _is_logged(self) -> bool:
        """Whether loggers see the current step; False without a trainer."""
        if self._trainer is None:
            return False
        return (self.global_step + 1) % self._trainer.log_every_n_steps == 0  # type: ignore[attr-defined, no-any-return]

    @torch.no_grad()
    def _log_cosines(self, anchor_BD: Tensor, candidates: Sequence[Tensor], present_C: Tensor, first: int) -> None:
        """Log the mean cosine of the positives and of all negatives, hard negatives included, over all processes.

        Candidates without text (false in `present_C`) are not negatives.
        """
        cosines_BC = similarities(anchor_BD, *candidates, similarity="cosine")
        positives = cosines_BC.diagonal(first)
        count = len(anchor_BD) * present_C.sum() - len(positives)
        negatives = ((cosines_BC * present_C).sum() - positives.sum()) / count.clamp(min=1)
        self._log_loss("train/positive_cosine", positives.mean())
        self._log_loss("train/negative_cosine", negatives)

    def _log_loss(self, name: str, loss: Tensor) -> None:
        """Log the loss of the global batch at logged steps; at other steps the bar shows this process's part."""
        if self._is_logged:
            loss = mean_over_ranks(loss)
        self.log(name, loss, prog_bar=name == "train/loss")

    def _views(self, input_ids_BVL: Tensor, attention_mask_BVL: Tensor, chunks: Sequence[Chunk]) -> tuple[Tensor, Tensor]:
        """Return the vectors of all views before and after the head, (B, V, H) and (B, V, D).

        With `fixed_dropout` the text is encoded once, since two passes with the same dropout mask give the same vector.
        """
        if not self.fixed_dropout and self.second_encoder is None:
            return encode_views(self.encoder, self.chunking, input_ids_BVL, attention_mask_BVL, chunks)
        first = input_ids_BVL[:, :1], attention_mask_BVL[:, :1]
        pooled_B1H, vectors_B1D = encode_views(self.encoder, self.chunking, *first)
        if self.second_encoder is None:
            views = input_ids_BVL.shape[1]
            return pooled_B1H.expand(-1, views, -1), vectors_B1D.expand(-1, views, -1)
        rest = input_ids_BVL[:, 1:], attention_mask_BVL[:, 1:]
        others = encode_views(self.second_encoder, self.chunking, *rest)
        return torch.cat([pooled_B1H, others[0]], dim=1), torch.cat([vectors_B1D, others[1]], dim=1)

    def configure_optimizers(self) -> Any:
        """Return the optimiser over every trainable parameter, and the schedule over all steps."""
        others = cast(Any, [*self.objective.terms.values(), *self.beside.values()])
        scales = {parameter: other.lr_scale for other in others for parameter in other.parameters()}
        by_scale: dict[float, list[Tensor]] = {}
        for parameter in self.parameters():
            if parameter.requires_grad:
                by_scale.setdefault(scales.get(parameter, 1.0), []).append(parameter)
        modules = [(module, getattr(module, "undecayed", ())) for module in self.objective.modules()]
        undecayed = [getattr(module, name) for module, names in modules for name in names]
        return self.optimisation.configured(by_scale, int(self.trainer.estimated_stepping_batches), undecayed)

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip the gradient, and log its norm before clipping as `train/gradient_norm`."""
        by_value = gradient_clip_algorithm == GradClipAlgorithmType.VALUE
        norm = clip_gradient(self.trainer, optimizer, gradient_clip_val, by_value=by_value, measure=self._is_logged)
        if self._is_logged:
            self.log("train/gradient_norm", norm)

    def on_validation_epoch_start(self) -> None:
        """Prepare for the vectors of the development sentences."""
        self.scorer.start(self.scorer.dev_sentences)

    def on_test_epoch_start(self) -> None:
        """Prepare for the vectors of all test sentences."""
        self.scorer.start(self.scorer.test_sentences)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Encode a batch of unique sentences, or predict the masked tokens of a batch of held-out text, (N, L)."""
        if "labels" in batch:
            logits_NLK = self.encoder.mlm_logits(batch["input_ids"], batch["attention_mask"])
            number, batches = batch["batch"].tolist()
            self.scorer.add_masked(number, batches, mlm_counts(logits_NLK, batch["labels"]))
            return
        vectors_ND = self.encoder.embed(batch["input_ids"], batch["attention_mask"], head=not self.untrained)
        self.scorer.add(batch["index"], vectors_ND)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Encode a batch of unique sentences, (N, L)."""
        self.validation_step(batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        """Log the development score, which selects the best checkpoint, and the analyses.

        The score is `val/sts`; in masked language modelling alone `val/mlm_loss`, with `val/mlm_accuracy`.

        Raises:
            UserError: the encoder has no score, because it collapsed or diverged; in training the message names a
                checkpoint.
        """
        if self._tries_out:
            return
        try:
            measured = self.scorer.dev(self.device)
        except UserError as error:
            if self.trainer.state.fn != "fit":
                raise
            said = f"Validation after step {self.global_step}: {error}\n{last_good(Path(self.trainer.default_root_dir))}"
            raise UserError(said) from error
        self.dev_scores = {f"val/{name}": value for name, value in measured.items()}
        for name, value in self.dev_scores.items() if self.logs_validation else ():
            self.log(name, value, prog_bar=name in self.scorer.suite.logged.values())

    def on_test_epoch_end(self) -> None:
        """Score the test tasks; log each task and the averages under `test/` or `before/`."""
        if self._tries_out:
            return
        self.test_scores = self.scorer.test(self.device)
        stage = "before" if self.untrained else "test"
        self.log_dict({f"{stage}/{name}": score for name, score in self.test_scores.items()})

    @property
    def _tries_out(self) -> bool:
        """Whether the trainer takes a few batches to see that they can be taken, which give no score."""
        return bool(self.trainer.sanity_checking or self.trainer.fast_dev_run)  # type: ignore[attr-defined]  # a connector's
