"""Passes of the encoders in a training step: that of the views, and those that terms ask for (`objective.step.Passes`).

Shapes: B examples, V views, L length, N sentences, H hidden, D numbers of a vector after the head, R bare templates, T their
length; a chunk has n sentences of l tokens.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.encoder.packing import Packing, in_slots
from simcse_lit.errors import UserError
from simcse_lit.objective.step import Passes
from simcse_lit.training.beside import Beside
from simcse_lit.training.chunking import Chunking, encode_in_chunks
from simcse_lit.training.gradient_cache import Chunk, in_chunks


def encode_views(
    encoder: SentenceEncoder,
    chunking: Chunking,
    ids_BVL: Tensor,
    mask_BVL: Tensor,
    chunks: Sequence[Chunk] | None = None,
    *,
    dropout: bool = True,
) -> tuple[Tensor, Tensor]:
    """Encode some views. The head sees all rows together.

    Args:
        encoder: the encoder.
        chunking: how the sentences are encoded.
        ids_BVL: token ids, (B, V, L).
        mask_BVL: 1 for real tokens, (B, V, L).
        chunks: the plan; None makes one here.
        dropout: False switches the dropout of the backbone off.

    Returns:
        The vectors before and after the head, (B, V, H) and (B, V, D).
    """
    chunks = chunking.plan(mask_BVL, can_pack=encoder.can_pack) if chunks is None else chunks
    ids_NL, mask_NL = ids_BVL.flatten(0, 1), mask_BVL.flatten(0, 1)
    pooled = encoder.pooled if dropout else partial(_without_dropout, encoder)
    keep = chunking.kept(mask_BVL)
    pooled_NH = encode_in_chunks(pooled, ids_NL, mask_NL, chunks, keep=keep)
    if encoder.denoising is not None:

        def placed(ids_RT: Tensor, mask_RT: Tensor, positions_RT: Tensor) -> Tensor:
            # one chunk, since with FSDP all processes must call the backbone equally often; without padding to pack
            whole = Chunking("never").plan(mask_RT[:, None])
            return encode_in_chunks(pooled, ids_RT, mask_RT, whole, keep=keep, positions_NL=positions_RT)

        pooled_NH = encoder.denoising(pooled_NH, ids_NL, mask_NL, placed)
    vectors_ND, views = encoder.project(pooled_NH), mask_BVL.shape[:2]
    return pooled_NH.unflatten(0, views), vectors_ND.unflatten(0, views)


def passes_of(
    encoder: SentenceEncoder,
    beside: Mapping[str, Beside],
    chunking: Chunking,
    ids_BVL: Tensor,
    mask_BVL: Tensor,
    chunks: Sequence[Chunk],
    others: Mapping[str, Mapping[str, Tensor]],
) -> Passes:
    """Return the passes for the terms, under the current autocast, which the objective switches off.

    Args:
        encoder: the trained encoder.
        beside: encoders beside it, by name.
        chunking: how sentences are encoded.
        ids_BVL: token ids of the views, (B, V, L).
        mask_BVL: 1 for real tokens, (B, V, L).
        chunks: how the views are encoded.
        others: `input_ids` and `attention_mask` of the views for encoders with other tokenizers, by name.
    """
    device = mask_BVL.device.type
    precision = partial(torch.autocast, device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device))
    keep = chunking.kept(mask_BVL)

    def called(name: str | None, where: torch.device, tokenised: Collection[str] = ()) -> tuple[SentenceEncoder, bool]:
        return (encoder, True) if name is None else _called(beside, name, where, tokenised)

    def vectors(
        used: tuple[SentenceEncoder, bool],
        ids_NL: Tensor,
        mask_NL: Tensor,
        *,
        gradient: bool = True,
        dropout: bool = True,
        head: bool = True,
    ) -> Tensor:
        with precision(), torch.set_grad_enabled(gradient and used[1] and torch.is_grad_enabled()):
            views = ids_NL[:, None], mask_NL[:, None]
            pooled_N1H, vectors_N1D = encode_views(used[0], chunking, *views, dropout=dropout)
        return exact(vectors_N1D if head else pooled_N1H).squeeze(1)

    def encode(ids_NL: Tensor, mask_NL: Tensor, *, encoder: str | None = None, **how: bool) -> Tensor:
        return vectors(called(encoder, ids_NL.device), ids_NL, mask_NL, **how)

    def encode_view(place: int, *, encoder: str | None = None, **how: bool) -> Tensor:
        own = others.get(encoder or "", {"input_ids": ids_BVL, "attention_mask": mask_BVL})
        ids_BL, mask_BL = (own[name][:, place] for name in ("input_ids", "attention_mask"))
        return vectors(called(encoder, ids_BL.device, others), ids_BL, mask_BL, **how)

    def token_scores(ids_nl: Tensor, mask_nl: Tensor, packing: Packing | None, *, encoder: str | None = None) -> Tensor:
        used, trained = called(encoder, ids_nl.device)
        with precision(), torch.set_grad_enabled(trained and torch.is_grad_enabled()):
            return in_slots(used.mlm_logits, used.can_pack, ids_nl, mask_nl, packing)

    def token_states(
        ids_nl: Tensor,
        mask_nl: Tensor,
        packing: Packing | None,
        *,
        encoder: str | None = None,
        first_nH: Tensor | None = None,
    ) -> Tensor:
        used, trained = called(encoder, ids_nl.device)
        states = partial(used.token_states, first_NH=first_nH)
        with precision(), torch.set_grad_enabled(trained and torch.is_grad_enabled()):
            return exact(in_slots(states, used.can_pack, ids_nl, mask_nl, packing))

    def parts(function: Callable[..., Tensor], *tokens_NL: Tensor, rows: Sequence[Tensor] = ()) -> list[Tensor]:
        return in_chunks(function, chunks, *tokens_NL, keep=keep, rows=rows)

    return Passes(encode, encode_view, parts, token_scores, token_states)


def exact(vectors: Tensor) -> Tensor:
    """Convert to float32 or better."""
    return vectors.to(torch.promote_types(vectors.dtype, torch.float32))


def _called(
    beside: Mapping[str, Beside], name: str, device: torch.device, tokenised: Collection[str]
) -> tuple[SentenceEncoder, bool]:
    """Return an encoder of `loss.beside`, on the device of its input, and whether it has a gradient.

    Args:
        beside: the encoders.
        name: which one.
        device: device of the input.
        tokenised: encoders with other tokenizers that get token ids of their own.

    Raises:
        UserError: there is no encoder of this name, or it would get token ids of another tokenizer.
    """
    if name not in beside:
        raise UserError(f"loss.beside.{name}: there is no such encoder. Known encoders: {', '.join(beside) or 'none'}.")
    found = beside[name]
    if found.tokenizer is not None and name not in tokenised:
        raise UserError(
            f"loss.beside.{name}: has another tokenizer than the trained model, whose token ids a term gives it.\n"
            "Name an encoder with the same tokenizer. (A term can call passes.encode_view instead.)"
        )
    if found.encoder.device != device:  # a frozen encoder is no submodule, and FSDP moves submodules only
        found.encoder.to(device)
    return found.encoder, found.trained


def _without_dropout(encoder: SentenceEncoder, *inputs: Any) -> Tensor:
    """Compute pooled vectors with the backbone in evaluation mode; works when a chunk is computed again, too."""
    training = encoder.backbone.training
    encoder.backbone.eval()
    try:
        return encoder.pooled(*inputs)
    finally:
        encoder.backbone.train(training)
