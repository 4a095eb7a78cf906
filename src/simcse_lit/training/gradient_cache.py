"""A step of any batch size in bounded memory: sentences go through the encoder in chunks, and a chunk's activations are
computed again when its turn in the backward pass comes, with the dropout that it had. Gao et al. 2021, "Scaling Deep
Contrastive Learning Batch Size under Memory Limited Setup" (gradient cache).

The gradient is the full batch's own: one loss over all vectors, one backward pass, in which each parameter's gradient is
finished, and under data parallelism reduced, once. Recomputing is PyTorch's activation checkpointing, which keeps each
chunk's random state and autocast.

Shapes: N sentences, L length; a chunk has n of the rows and l of the columns.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from simcse_lit.encoder.packing import Packing


@dataclass(frozen=True)
class Chunk:
    """Rows that go through the encoder together.

    Args:
        rows_n: places of the rows, (n,).
        longest: columns that they need.
        packing: how they go through it several a row; None for one a row.
    """

    rows_n: Tensor
    longest: int
    packing: Packing | None = None

    def to(self, device: torch.device) -> "Chunk":
        """The same chunk with its rows on a device; the host does not wait for a GPU to have them."""
        on_cuda = device.type == "cuda"
        rows_n = self.rows_n.pin_memory() if on_cuda else self.rows_n
        packing = None if self.packing is None else self.packing.to(device)
        return Chunk(rows_n.to(device, non_blocking=on_cuda), self.longest, packing)


def in_chunks(
    function: Callable[..., Tensor],
    chunks: Sequence[Chunk],
    *tensors_NL: Tensor,
    keep: int | None,
    rows: Sequence[Tensor] = (),
) -> list[Tensor]:
    """`function` of each chunk's part of the tensors.

    Args:
        function: (n, l) tensors, those of `rows`, and the chunk's packing or None, to a tensor.
        chunks: which rows go together.
        tensors_NL: ids, mask, ...; (N, L) each.
        keep: tokens whose activations may be kept; None for all. Those of the last chunks are, since their gradient comes
            first; a chunk before them is computed again when its gradient is due.
        rows: further tensors, with one row a sentence, (N, ...).

    Returns:
        What `function` returned, chunk by chunk.
    """
    tokens = [len(chunk.rows_n) * chunk.longest for chunk in chunks]
    outputs = []
    for number, chunk in enumerate(chunks):
        part_nl = [tensor_NL[chunk.rows_n, : chunk.longest] for tensor_NL in tensors_NL]
        part_nl += [tensor_N[chunk.rows_n] for tensor_N in rows]
        if keep is not None and sum(tokens[number:]) > keep:
            outputs.append(checkpoint(function, *part_nl, chunk.packing, use_reentrant=False))
        else:
            outputs.append(function(*part_nl, chunk.packing))
    return outputs
