"""`SentenceEncoder`: a transformers backbone, a pooler and a head. It knows nothing about training.

Shapes: N sentences, L length, H hidden, D after the head, K vocabulary; packed, R rows of W slots.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from simcse_lit.config.registered import record, recorded
from simcse_lit.encoder.denoising import Denoising
from simcse_lit.encoder.first_token import FirstToken
from simcse_lit.encoder.head import MLP, WHEN, Head, head
from simcse_lit.encoder.kinds import counts_from, kind_of
from simcse_lit.encoder.packing import Packing, first_position
from simcse_lit.encoder.pooling import CLS, Pooler, make_pooler

Nodes = Mapping[str, Mapping[str, Any] | None]  # nodes of the configuration by kind: pooler and projection
CHECKPOINT_SECTION = "simcse"  # in a Lightning checkpoint: model, adapter, pooler and projection of its encoder


class SentenceEncoder(nn.Module):
    """Compute sentence vectors from token ids.

    Args:
        backbone: any transformers encoder, or its masked language model if MLM is an auxiliary objective.
        pooler: the pooler, or its registered name.
        projection: the head, or its registered name: `mlp` projects in training and at evaluation, `mlp_train_only` in
            training only, `none` never.

    Attributes:
        denoising: how the vector of the bare template is subtracted; None for not at all. The loader or the builder sets it.

    Raises:
        UserError: the pooler or head is unknown or cannot be made.

    Example:
        Vectors for use, (N, H)::

            encoder = SentenceEncoder(AutoModel.from_pretrained(folder), "cls", "none").eval()
            vectors_NH = encoder.embed(batch["input_ids"], batch["attention_mask"])
    """

    def __init__(self, backbone: PreTrainedModel, pooler: Pooler | str, projection: Head | str) -> None:
        super().__init__()
        self.pooler = make_pooler(pooler) if isinstance(pooler, str) else pooler
        self.head = head(projection) if isinstance(projection, str) else projection
        self.backbone = cast(PreTrainedModel, backbone.base_model)
        self.language_model = None if self.backbone is backbone else backbone
        pooler_of_backbone = getattr(self.backbone, "pooler", None)
        # The poolers of BERT and RoBERTa compute the same as our MLP, so an export can store the MLP there.
        self.backbone_has_mlp_pooler = isinstance(getattr(pooler_of_backbone, "dense", None), nn.Linear) and isinstance(
            getattr(pooler_of_backbone, "activation", None), nn.Tanh
        )
        if pooler_of_backbone is not None:
            # SimCSE never reads BERT's pretrained pooler. Its parameters would only take memory.
            called = kind_of(self.backbone.config.model_type).calls_its_pooler
            self.backbone.register_module("pooler", nn.Identity() if called else None)
        self._first_token = FirstToken(self.backbone)
        self._packed_backbone: Callable[..., Any] | None = None  # the compiled backbone for packed passes
        self.denoising: Denoising | None = None
        self.hidden = int(self.backbone.config.hidden_size)
        self.truncate_dim: int | None = None  # numbers of a vector that `embed` keeps; None for all
        self.projection = self.head.make(self.hidden)  # checkpoints of all versions use this name
        self.train()  # from_pretrained leaves the backbone in evaluation mode, without dropout

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.parameters()).device

    @property
    def projected(self) -> bool:
        """Whether the head is also used at evaluation and in use."""
        return self.projection is not None and self.head.when == "always"

    @property
    def stored_as_pooler(self) -> bool:
        """Whether the backbone can store the head as its own pooler, as BERT can. Its `pooler_output` is then the vector."""
        is_mlp = self.projected and type(self.projection) is MLP and not self.denoised_in_use
        return is_mlp and type(self.pooler) is CLS and self.backbone_has_mlp_pooler

    @property
    def denoised_in_use(self) -> bool:
        """Whether the vector of the bare template is also subtracted at evaluation and in use."""
        return self.denoising is not None and self.denoising.when == "always"

    def record(self) -> dict[str, Any]:
        """Return pooler, head, denoising and `truncate_dim` in plain values, as exports record them (`registered.py`)."""
        when = {} if self.head.when == WHEN.get(self.head.name) else {"when": self.head.when}
        parts = record(
            {
                "pooler": (self.pooler.name, self.pooler.target, self.pooler.arguments),
                "projection": (self.head.name, self.head.target, {**self.head.arguments, **when}),
            }
        )
        parts |= self.denoising.record() if self.denoising else {}
        return parts if self.truncate_dim is None else {**parts, "truncate_dim": self.truncate_dim}

    @property
    def has_dropout(self) -> bool:
        """Whether two training passes of a sentence give different vectors."""
        for module in self.modules():
            rates = [module.p] if isinstance(module, nn.Dropout) else []
            rates += [getattr(module, name, 0) for name in ("attention_dropout", "dropout")]  # a number in Llama and OPT
            if any(isinstance(rate, (int, float)) and rate > 0 for rate in rates):
                return True
        return False

    def compile_backbone(self, how: str) -> None:
        """Compile the backbone with torch.compile.

        Args:
            how: the key `trainer.compile`: `never`; `default`, for batches of any size and length; or `cuda_graphs`, which
                records a packed pass for each number of rows and replays it on a GPU. Sentences to score have too many
                shapes, so `cuda_graphs` does not compile their pass.
        """
        if how == "default":
            self.backbone.compile(dynamic=True)
        elif how == "cuda_graphs":
            self._packed_backbone = torch.compile(self.backbone.forward, mode="reduce-overhead")

    @property
    def can_pack(self) -> bool:
        """Whether a row of the backbone may hold several sentences (`packing.py`)."""
        return first_position(self.backbone) is not None

    def pooled(
        self,
        input_ids_NL: Tensor,
        attention_mask_NL: Tensor,
        packing: Packing | None = None,
        positions_NL: Tensor | None = None,
    ) -> Tensor:
        """Compute the vectors before the head.

        Args:
            input_ids_NL: token ids, (N, L).
            attention_mask_NL: 1 for real tokens, (N, L).
            packing: places of the tokens in packed rows. It does not change the result.
            positions_NL: position of each token, from 0 for any backbone, (N, L). None: 0, 1, 2, ...

        Returns:
            The vectors, (N, H).

        Raises:
            UserError: there are positions, and it is not known how the backbone counts them.
        """
        layers = self.pooler.every_layer
        inputs = self._inputs(input_ids_NL, attention_mask_NL, packing, positions_NL)
        backbone = self.backbone if packing is None else self._packed_backbone or self.backbone
        recorded = backbone is not self.backbone  # as CUDA graphs, which ignore the state of FirstToken
        if self.pooler.first_token and self._first_token.possible and not recorded:
            with self._first_token.alone(packing):
                first_N1H: Tensor = backbone(**inputs).last_hidden_state
            return cast(Tensor, self.pooler((first_N1H,), attention_mask_NL))
        output = backbone(**inputs, output_hidden_states=layers)
        hidden_states = output.hidden_states if layers else (output.last_hidden_state,)
        if packing is not None:
            hidden_states = tuple(packing.unpack(hidden_RWH, input_ids_NL.shape) for hidden_RWH in hidden_states)
        return cast(Tensor, self.pooler(hidden_states, attention_mask_NL))

    def _inputs(
        self,
        input_ids_NL: Tensor,
        attention_mask_NL: Tensor,
        packing: Packing | None,
        positions_NL: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return the arguments of the backbone: one sentence in a row or, with a packing, several."""
        if packing is None:
            inputs = {"input_ids": input_ids_NL, "attention_mask": attention_mask_NL}
            return inputs if positions_NL is None else {**inputs, "position_ids": positions_NL + counts_from(self.backbone)}
        positions_RW = packing.positions_RW if positions_NL is None else packing.pack(positions_NL, 0)
        inputs = {
            "input_ids": packing.pack(input_ids_NL, 0),
            "attention_mask": packing.mask_R1WW,
            "position_ids": positions_RW + (first_position(self.backbone) or 0),
        }
        if self._packed_backbone is not None:  # compile once for any number of rows
            for tensor in inputs.values():
                torch._dynamo.maybe_mark_dynamic(tensor, 0)
        return inputs

    def project(self, pooled_NH: Tensor) -> Tensor:
        """Apply the head, if there is one: (N, H) to (N, D)."""
        return pooled_NH if self.projection is None else self.projection(pooled_NH)

    def forward(self, input_ids_NL: Tensor, attention_mask_NL: Tensor, packing: Packing | None = None) -> Tensor:
        """Compute the vectors that training contrasts, after the head if there is one: (N, L) to (N, D)."""
        pooled_NH = self.pooled(input_ids_NL, attention_mask_NL, packing)
        if self.denoising is not None:
            pooled_NH = self.denoising(pooled_NH, input_ids_NL, attention_mask_NL, self._placed)
        return self.project(pooled_NH)

    @property
    def width(self) -> int:
        """Numbers of a vector before `truncate_dim`."""
        return self.hidden

    def embed(self, input_ids_NL: Tensor, attention_mask_NL: Tensor, *, head: bool = True) -> Tensor:
        """Compute the vectors for evaluation and use, after the head only if it is always used: (N, L) to (N, D).

        With `truncate_dim`, only the first numbers of each vector remain.

        Args:
            input_ids_NL: token ids, (N, L).
            attention_mask_NL: 1 for real tokens, (N, L).
            head: False leaves the head out, whenever it is used.

        Source: SimCSE section 6.3, "we keep the MLP for supervised and discard it for unsupervised models".
        """
        pooled_NH = self.pooled(input_ids_NL, attention_mask_NL)
        if self.denoising is not None and self.denoised_in_use:
            pooled_NH = self.denoising(pooled_NH, input_ids_NL, attention_mask_NL, self._placed)
        vectors_ND = self.project(pooled_NH) if head and self.projected else pooled_NH
        return vectors_ND[:, : self.truncate_dim]

    def _placed(self, input_ids_NL: Tensor, attention_mask_NL: Tensor, positions_NL: Tensor) -> Tensor:
        return self.pooled(input_ids_NL, attention_mask_NL, None, positions_NL)

    @property
    def takes_first(self) -> bool:
        """Whether `token_states` can replace the embedding of the first token: it must have the size of a state."""
        size = getattr(self.backbone.get_input_embeddings(), "embedding_dim", None)
        return isinstance(getattr(self.backbone, "embeddings", None), nn.Module) and size == self.hidden

    def token_states(
        self,
        input_ids_NL: Tensor,
        attention_mask_NL: Tensor,
        packing: Packing | None = None,
        *,
        first_NH: Tensor | None = None,
    ) -> Tensor:
        """Return the last hidden state at each token, (N, L) to (N, L, H), or with a packing at each slot, (R, W, H).

        Args:
            input_ids_NL: token ids, (N, L).
            attention_mask_NL: 1 for real tokens, (N, L).
            packing: places of the tokens in packed rows.
            first_NH: vectors that replace the output of the embedding layer at the first token of each sentence, (N, H).
                They need `takes_first`.
        """
        with _first_embedding(self.backbone, first_NH, packing):
            output = self.backbone(**self._inputs(input_ids_NL, attention_mask_NL, packing))
        return cast(Tensor, output.last_hidden_state)

    def mlm_logits(self, input_ids_NL: Tensor, attention_mask_NL: Tensor, packing: Packing | None = None) -> Tensor:
        """Score the vocabulary at each token, (N, L) to (N, L, K), or with a packing at each slot, (R, W, K).

        Raises:
            ValueError: the encoder has no language-modelling head.
        """
        if self.language_model is None:
            raise ValueError("the backbone has no language-modelling head; load it with mlm=True")
        output = self.language_model(**self._inputs(input_ids_NL, attention_mask_NL, packing))
        return cast(Tensor, output.logits)


@contextmanager
def _first_embedding(backbone: PreTrainedModel, first_NH: Tensor | None, packing: Packing | None) -> Iterator[None]:
    """Replace the output of the embedding layer at the first token of each sentence inside this context."""
    if first_NH is None:
        yield
        return

    def replace(_: nn.Module, inputs: Any, embedded: Tensor) -> Tensor:
        first = first_NH.to(embedded.dtype)
        if packing is None:
            return torch.cat([first[:, None], embedded[:, 1:]], dim=1)
        return embedded.flatten(0, 1).index_copy(0, packing.starts_n, first).view_as(embedded)

    hook = backbone.get_submodule("embeddings").register_forward_hook(replace)
    try:
        yield
    finally:
        hook.remove()


def second_encoder(encoder: SentenceEncoder) -> SentenceEncoder:
    """Copy an encoder and give the copy a new head, to train two independent encoders.

    Source: SimCSE section 3.1 and Table 2 ("dual f"), section 4.1.
    """
    second = deepcopy(encoder)
    second.projection = encoder.head.make(encoder.hidden)
    return second


def parts_of(section: Mapping[str, Any], source: str, own: Nodes | None = None) -> tuple[Pooler, Head]:
    """Build the pooler and the head that an export or a checkpoint records.

    Args:
        section: what `SentenceEncoder.record` returned.
        source: the export or checkpoint, for messages.
        own: the nodes `pooler` and `projection` of the user's own configuration.

    Raises:
        KeyError: one of them is not recorded.
        UserError: one of them is not installed here, or the record names code.
    """
    own = own or {}
    pooler = make_pooler(recorded(section, "pooler", source, own.get("pooler")))
    return pooler, head(recorded(section, "projection", source, own.get("projection")))
