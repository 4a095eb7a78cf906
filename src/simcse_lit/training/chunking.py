"""Cuts a step's sentences into chunks: of like length, so that little of the work is padding, and of bounded size.

The result is the same: the vectors come back in order, one loss follows, and one backward pass. docs/benchmarks.md shows how
much of a batch is padding where all of it is padded to its longest sentence.

Shapes: N sentences, L length, H hidden.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from simcse_lit.config.schema import TrainerConfig
from simcse_lit.data.lengths import length_chunks
from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.encoder.packing import Packing, pack
from simcse_lit.errors import UserError
from simcse_lit.training.gradient_cache import Chunk, in_chunks


def chunking(trainer: TrainerConfig, encoder: SentenceEncoder, *, on_cpu: bool) -> str:
    """How a step's sentences go through the encoder: `always` in chunks of like length, `packed`, or `never` but padded.

    Raises:
        UserError: the encoder cannot be packed for, or CUDA graphs are asked for where they cannot be.
    """
    choice = trainer.length_chunks
    if choice == "auto":
        choice = "always" if on_cpu else "packed" if encoder.can_pack else "never"
    elif choice == "packed" and not encoder.can_pack:
        config = encoder.backbone.config
        raise UserError(
            f"trainer.length_chunks=packed: not for {config.model_type} with {config._attn_implementation} attention.\n"
            "It takes BERT's and RoBERTa's kinds, and model.attention=sdpa. Elsewhere: always, or never."
        )
    if trainer.compile == "cuda_graphs" and (on_cpu or choice != "packed" or trainer.micro_batch_size is not None):
        raise UserError(
            "trainer.compile=cuda_graphs: repeats one pass a step on a GPU.\n"
            "It needs trainer.accelerator=gpu, trainer.length_chunks=packed and trainer.micro_batch_size=null."
        )
    return choice


def plan(
    attention_mask_NL: Tensor, *, by_length: bool, limit: int | None, overhead: int, packed: bool = False
) -> list[Chunk]:
    """Which sentences go through the encoder together; padding must stand on the right.

    Args:
        attention_mask_NL: 1 for real tokens, (N, L).
        by_length: sort by length and cut where padding is saved; else chunks are consecutive rows, padded as they are.
        limit: most sentences of a chunk, or None.
        overhead: what one more forward and backward pass costs, in tokens.
        packed: each chunk goes through the encoder several sentences a row (`packing.py`), which goes with `by_length` off.

    Returns:
        Chunks that hold every row once.
    """
    rows, width = attention_mask_NL.shape
    limit = limit or rows
    if not by_length:
        places_N = torch.arange(rows, device=attention_mask_NL.device)
        parts = places_N.split(limit)
        if not packed:
            return [Chunk(part, width) for part in parts]
        device = attention_mask_NL.device
        return [Chunk(part, width, pack(attention_mask_NL[part].cpu()).to(device)) for part in parts]
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
    encode: Callable[[Tensor, Tensor, Packing | None], Tensor],
    input_ids_NL: Tensor,
    attention_mask_NL: Tensor,
    chunks: Sequence[Chunk],
    *,
    keep: int | None = None,
) -> Tensor:
    """`encode(input_ids_NL, attention_mask_NL)`, computed chunk by chunk.

    Args:
        encode: (n, l) ids and mask, and a packing or None, to (n, H) vectors, each sentence on its own.
        input_ids_NL: token ids, (N, L).
        attention_mask_NL: 1 for real tokens, (N, L).
        chunks: from `plan`.
        keep: tokens whose activations may be kept, for the gradient cache (`training/gradient_cache.py`); None for all.

    Returns:
        (N, H), in the order of the rows given.
    """
    vectors = in_chunks(encode, chunks, input_ids_NL, attention_mask_NL, keep=keep)
    return torch.cat(vectors)[torch.cat([chunk.rows_n for chunk in chunks]).argsort()]
