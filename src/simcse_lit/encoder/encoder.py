"""SentenceEncoder: a transformers backbone, a pooler and a projection. It knows nothing of training.

Shapes: N sentences, L length, H hidden, K vocabulary; packed, R rows of W slots.
"""

from collections.abc import Callable
from copy import deepcopy
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from simcse_lit.encoder.first_token import FirstToken
from simcse_lit.encoder.packing import Packing, first_position
from simcse_lit.encoder.pooling import OF_FIRST_TOKEN, POOLERS

CHECKPOINT_SECTION = "simcse"  # in a Lightning checkpoint: its encoder's model, adapter, pooler and projection
CALL_THEIR_POOLER = ("layoutlm", "squeezebert")  # architectures that do not ask whether they have one


class Projection(nn.Module):
    """One linear layer and tanh, freshly initialised: weights N(0, 0.02), bias 0.

    It never starts from BERT's pretrained pooler, which was trained for next-sentence prediction.

    Source: SimCSE section 6.3, "MLP".
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.dense: nn.Linear = nn.Linear(hidden, hidden)
        nn.init.normal_(self.dense.weight, std=0.02)
        nn.init.zeros_(self.dense.bias)

    def forward(self, pooled_NH: Tensor) -> Tensor:
        """(N, H) to (N, H), each number in (-1, 1)."""
        return torch.tanh(self.dense(pooled_NH))


class SentenceEncoder(nn.Module):
    """Computes sentence vectors from token ids.

    Args:
        backbone: any transformers encoder, or its masked-language-modelling model if MLM is an auxiliary objective.
        pooler: a name in `pooling.POOLERS`.
        projection: `mlp` projects in training and at evaluation, `mlp_train_only` in training only, `none` never.

    Raises:
        ValueError: an unknown pooler or projection.
    """

    def __init__(self, backbone: PreTrainedModel, pooler: str, projection: str) -> None:
        super().__init__()
        if pooler not in POOLERS:
            raise ValueError(f"unknown pooler {pooler!r}; one of {', '.join(POOLERS)}")
        if projection not in ("mlp", "mlp_train_only", "none"):
            raise ValueError(f"unknown projection {projection!r}; one of mlp, mlp_train_only, none")
        self.pooler = pooler
        self.projection_name = projection
        self.backbone = cast(PreTrainedModel, backbone.base_model)
        self.language_model = None if self.backbone is backbone else backbone
        pooler_of_backbone = getattr(self.backbone, "pooler", None)
        # BERT's and RoBERTa's pooler computes the same as our projection, so an export can store the projection there.
        self.backbone_has_mlp_pooler = isinstance(getattr(pooler_of_backbone, "dense", None), nn.Linear) and isinstance(
            getattr(pooler_of_backbone, "activation", None), nn.Tanh
        )
        if pooler_of_backbone is not None:
            # SimCSE never reads BERT's own pooler; its parameters would only take memory.
            called = self.backbone.config.model_type in CALL_THEIR_POOLER
            self.backbone.register_module("pooler", nn.Identity() if called else None)
        self._first_token = FirstToken(self.backbone)
        self._packed_backbone: Callable[..., Any] | None = None  # compiled for packed passes
        self.hidden = int(self.backbone.config.hidden_size)
        self.projection: Projection | None = None if projection == "none" else Projection(self.hidden)
        self.train()  # from_pretrained leaves the backbone in evaluation mode, without dropout

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def has_dropout(self) -> bool:
        """Whether two training passes over a sentence differ."""
        for module in self.modules():
            rates = [module.p] if isinstance(module, nn.Dropout) else []
            rates += [getattr(module, name, 0) for name in ("attention_dropout", "dropout")]  # a number in Llama and OPT
            if any(isinstance(rate, (int, float)) and rate > 0 for rate in rates):
                return True
        return False

    def compile_backbone(self, how: str) -> None:
        """Compile the backbone with torch.compile.

        Args:
            how: `trainer.compile`: `never`; `default`, for batches of any size and length; `cuda_graphs`, which records a
                packed pass for each number of rows and replays it on a GPU. Sentences to score have too many shapes for
                `cuda_graphs`, so it leaves them uncompiled.
        """
        if how == "default":
            self.backbone.compile(dynamic=True)
        elif how == "cuda_graphs":
            self._packed_backbone = torch.compile(self.backbone.forward, mode="reduce-overhead")

    @property
    def can_pack(self) -> bool:
        """Whether a row of the backbone may hold several sentences (`packing.py`)."""
        return first_position(self.backbone) is not None

    def pooled(self, input_ids_NL: Tensor, attention_mask_NL: Tensor, packing: Packing | None = None) -> Tensor:
        """Backbone and pooler, without projection: (N, L) ids and mask to (N, H); `packing` does not change the result."""
        layers = self.pooler in ("avg_first_last", "avg_top2")
        inputs = self._inputs(input_ids_NL, attention_mask_NL, packing)
        backbone = self.backbone if packing is None else self._packed_backbone or self.backbone
        recorded = backbone is not self.backbone  # by CUDA graphs, which ignore FirstToken's state
        if self.pooler in OF_FIRST_TOKEN and self._first_token.possible and not recorded:
            with self._first_token.alone(packing):
                first_N1H: Tensor = backbone(**inputs).last_hidden_state
            return POOLERS[self.pooler]((first_N1H,), attention_mask_NL)
        output = backbone(**inputs, output_hidden_states=layers)
        hidden_states = output.hidden_states if layers else (output.last_hidden_state,)
        if packing is not None:
            hidden_states = tuple(packing.unpack(hidden_RWH, input_ids_NL.shape) for hidden_RWH in hidden_states)
        return POOLERS[self.pooler](hidden_states, attention_mask_NL)

    def _inputs(self, input_ids_NL: Tensor, attention_mask_NL: Tensor, packing: Packing | None) -> dict[str, Tensor]:
        """The backbone's arguments, with one sentence a row or, with a packing, several."""
        if packing is None:
            return {"input_ids": input_ids_NL, "attention_mask": attention_mask_NL}
        inputs = {
            "input_ids": packing.pack(input_ids_NL, 0),
            "attention_mask": packing.mask_R1WW,
            "position_ids": packing.positions_RW + (first_position(self.backbone) or 0),
        }
        if self._packed_backbone is not None:  # one compilation for any number of rows
            for tensor in inputs.values():
                torch._dynamo.maybe_mark_dynamic(tensor, 0)
        return inputs

    def forward(self, input_ids_NL: Tensor, attention_mask_NL: Tensor, packing: Packing | None = None) -> Tensor:
        """Compute the vectors that training contrasts, projected unless the projection is `none`: (N, L) to (N, H)."""
        pooled_NH = self.pooled(input_ids_NL, attention_mask_NL, packing)
        return pooled_NH if self.projection is None else self.projection(pooled_NH)

    def embed(self, input_ids_NL: Tensor, attention_mask_NL: Tensor) -> Tensor:
        """Compute the vectors for evaluation and use, projected only if the projection is `mlp`: (N, L) to (N, H).

        Source: SimCSE section 6.3, "we keep the MLP for supervised and discard it for unsupervised models".
        """
        if self.projection_name == "mlp":
            return self.forward(input_ids_NL, attention_mask_NL)
        return self.pooled(input_ids_NL, attention_mask_NL)

    def mlm_logits(self, input_ids_NL: Tensor, attention_mask_NL: Tensor, packing: Packing | None = None) -> Tensor:
        """Score the vocabulary at each token: (N, L) to (N, L, K), or with a packing at each slot, (R, W, K).

        Raises:
            ValueError: the encoder was built without a language-modelling head.
        """
        if self.language_model is None:
            raise ValueError("the backbone has no language-modelling head; load it with mlm=True")
        output = self.language_model(**self._inputs(input_ids_NL, attention_mask_NL, packing))
        return cast(Tensor, output.logits)


def second_encoder(encoder: SentenceEncoder) -> SentenceEncoder:
    """Copy an encoder and give the copy a fresh projection, to train two independent encoders.

    Source: SimCSE section 3.1 and Table 2 ("dual f"), section 4.1.
    """
    second = deepcopy(encoder)
    if encoder.projection is not None:
        second.projection = Projection(encoder.hidden)
    return second
