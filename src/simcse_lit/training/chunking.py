"""Splits the sentences of a step into chunks of similar length and limited size, to avoid padding.

Loss and gradient stay the same: the vectors return in their order, followed by one loss and one backward pass. The benchmark
"levers" measures how much padding this avoids.

Shapes: B examples, V views, N = B x V sentences, L length, H hidden.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from simcse_lit.config.schema import TrainerConfig
from simcse_lit.data.lengths import length_chunks
from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.encoder.kinds import KINDS
from simcse_lit.encoder.packing import Packing, pack
from simcse_lit.errors import UserError
from simcse_lit.training.gradient_cache import Chunk, in_chunks


@dataclass(frozen=True)
class Chunking:
    """How the sentences of a step are encoded.

    Args:
        how: `always` in chunks of similar length, `packed` with several sentences in a row, or `never` for one padded batch.
        overhead: cost of one more chunk, in tokens.
        micro_batch_size: examples whose activations are kept at a time (`gradient_cache.py`); None for all.
    """

    how: str
    overhead: int = 0
    micro_batch_size: int | None = None

    def plan(self, attention_mask_BVL: Tensor, *, can_pack: bool = True) -> list[Chunk]:
        """Plan the chunks of a batch for an encoder that may not support packing."""
        how = "always" if self.how == "packed" and not can_pack else self.how
        limit = None if self.micro_batch_size is None else self.micro_batch_size * attention_mask_BVL.shape[1]
        return plan(attention_mask_BVL.flatten(0, 1), how, limit=limit, overhead=self.overhead)

    def kept(self, attention_mask_BVL: Tensor) -> int | None:
        """Return the number of tokens whose activations are kept; None for all."""
        return None if self.micro_batch_size is None else self.micro_batch_size * attention_mask_BVL[0].numel()


def chunking(trainer: TrainerConfig, encoder: SentenceEncoder, *, on_cpu: bool) -> Chunking:
    """Resolve `trainer.length_chunks` for this encoder and device.

    Raises:
        UserError: the encoder does not support packing, or CUDA graphs are not possible.
    """
    how = trainer.length_chunks
    if how == "auto":
        how = "always" if on_cpu else "packed" if encoder.can_pack else "never"
    elif how == "packed" and not encoder.can_pack:
        config = encoder.backbone.config
        known = ", ".join(name for name, kind in KINDS.items() if kind.first_position)
        raise UserError(
            f"trainer.length_chunks=packed: does not support {config.model_type} with {config._attn_implementation} "
            "attention.\n"
            f"It needs model.attention=sdpa and one of {known}.\nOtherwise use always or never."
        )
    if trainer.compile == "cuda_graphs" and (on_cpu or how != "packed" or trainer.micro_batch_size is not None):
        raise UserError(
            "trainer.compile=cuda_graphs: replays one encoder pass for each step, on a GPU only.\n"
            "It needs trainer.accelerator=gpu, trainer.length_chunks=packed and trainer.micro_batch_size=null."
        )
    return Chunking(how, trainer.chunk_overhead, trainer.micro_batch_size)


def plan(attention_mask_NL: Tensor, how: str, *, limit: int | None = None, overhead: int = 0) -> list[Chunk]:
    """Plan which sentences go through the encoder together. Padding must be on the right.

    Args:
        attention_mask_NL: 1 for real tokens, (N, L).
        how: `always` sorts by length and splits where that saves padding; `packed` and `never` keep the order, and `packed`
            puts several sentences of a chunk in a row (`encoder/packing.py`).
        limit: maximum sentences of a chunk, or None.
        overhead: cost of one more forward and backward pass, in tokens.

    Returns:
        Chunks that contain every row once.
    """
    rows, width = attention_mask_NL.shape
    limit = limit or rows
    if how == "always":
        return _of_like_length(attention_mask_NL, limit, overhead)
    device = attention_mask_NL.device
    parts = torch.arange(rows, device=device).split(limit)
    if how == "never":
        return [Chunk(part, width) for part in parts]
    return [Chunk(part, width, pack(attention_mask_NL[part].cpu()).to(device)) for part in parts]


def _of_like_length(attention_mask_NL: Tensor, limit: int, overhead: int) -> list[Chunk]:
    lengths_N = attention_mask_NL.sum(1)
    order_N = lengths_N.argsort(descending=True, stable=True)
    lengths = lengths_N[order_N].tolist()
    chunks, start = [], 0
    for size in length_chunks(lengths, overhead):
        for first in range(start, start + size, limit):
            chunks.append(Chunk(order_N[first : min(first + limit, start + size)], lengths[first]))
        start += size
    return chunks


def encode_in_chunks(
    encode: Callable[..., Tensor],
    input_ids_NL: Tensor,
    attention_mask_NL: Tensor,
    chunks: Sequence[Chunk],
    *,
    keep: int | None = None,
    positions_NL: Tensor | None = None,
) -> Tensor:
    """Compute `encode(input_ids_NL, attention_mask_NL)` chunk by chunk.

    Args:
        encode: maps (n, l) ids and mask, a packing or None and, if there are positions, those to (n, H) vectors, each
            sentence independently.
        input_ids_NL: token ids, (N, L).
        attention_mask_NL: 1 for real tokens, (N, L).
        chunks: from `plan`.
        keep: tokens whose activations may be kept, for the gradient cache (`gradient_cache.py`); None for all.
        positions_NL: position of each token, (N, L); None for the usual ones.

    Returns:
        (N, H), in the order of the given rows.
    """
    if positions_NL is None:
        vectors = in_chunks(encode, chunks, input_ids_NL, attention_mask_NL, keep=keep)
    else:

        def placed(ids_nl: Tensor, mask_nl: Tensor, positions_nl: Tensor, packing: Packing | None) -> Tensor:
            return encode(ids_nl, mask_nl, packing, positions_nl)

        vectors = in_chunks(placed, chunks, input_ids_NL, attention_mask_NL, positions_NL, keep=keep)
    return torch.cat(vectors)[torch.cat([chunk.rows_n for chunk in chunks]).argsort()]
