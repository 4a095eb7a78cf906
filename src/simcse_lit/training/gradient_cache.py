"""The gradient cache: a step of any batch size in limited memory.

Sentences go through the encoder in chunks. In the backward pass the activations of a chunk are computed again, with the same
dropout. The gradient equals that of the full batch: there is one loss over all vectors and one backward pass, in which each
parameter's gradient is completed, and under data parallelism reduced, once. PyTorch's activation checkpointing does the
recomputation and restores each chunk's random state and autocast.

Shapes: N sentences, L length; a chunk has n of the rows and l of the columns.

Source: Gao et al. 2021, Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup.
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
        longest: number of columns that they need.
        packing: how several sentences share a row; None for one sentence a row.
    """

    rows_n: Tensor
    longest: int
    packing: Packing | None = None

    def to(self, device: torch.device) -> "Chunk":
        """Copy the chunk to a device; the host does not wait for a GPU."""
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
    """Call `function` on each chunk's part of the tensors.

    Args:
        function: maps (n, l) tensors, those of `rows`, and the chunk's packing or None, to a tensor.
        chunks: rows that go together.
        tensors_NL: ids, mask, ...; (N, L) each.
        keep: tokens whose activations may be kept; None for all. The last chunks keep theirs, since the backward pass needs
            them first; earlier chunks are computed again.
        rows: further tensors with one row for each sentence, (N, ...).

    Returns:
        The results of `function`, chunk by chunk.
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
