"""Gathers the rows of all processes with gradient, so that each process contrasts its own rows with the whole batch.

Data parallelism averages the gradients of its W processes. If each process takes the mean loss of its own rows over the
gathered candidates, this average is exactly the gradient of one process with the whole batch. That is true for the encoder
and for everything after the gather.

Three shortcuts are wrong:

- A detached gather with the own rows put back gives 1/W of the encoder's gradient.
- The same times W is wrong for everything after the gather, such as a learnable temperature.
- Own rows over detached candidates give another direction.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from simcse_lit.distributed import world


def gather_rows(local_B: Tensor) -> Tensor:
    """Gather the rows of all processes, those of rank 0 first. The backward pass sums the gradients of all processes.

    Args:
        local_B: rows of this process, (B, ...), with the same shape in all processes.

    Returns:
        The rows, (W x B, ...). With one process, `local_B` itself.
    """
    gathered_N: Tensor = local_B if world()[1] == 1 else _GatherRows.apply(local_B)
    return gathered_N


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, local_B: Tensor) -> Tensor:
        gathered = [torch.empty_like(local_B) for _ in range(world()[1])]
        dist.all_gather(gathered, local_B.contiguous())
        return torch.cat(gathered)

    @staticmethod
    def backward(ctx: Any, gradient_N: Tensor) -> Tensor:
        rank, processes = world()
        total_N = gradient_N.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total_N)
        return total_N.chunk(processes)[rank]
