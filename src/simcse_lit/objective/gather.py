"""Candidates of all processes as if they were one batch, with gradient; each process contrasts its own rows with them.

Data parallelism averages the gradients of its W processes. With the local rows' mean loss over the gathered candidates that
average is exactly the gradient of one process on the whole batch, for the encoder and for whatever comes after the gather.
Three shortcuts are not: a detached gather with the own rows spliced in gives 1/W of the encoder's gradient, the same times W
is wrong for everything after the gather (a learnable temperature), local rows over detached candidates point elsewhere.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from simcse_lit.distributed import world


def gather_rows(local_B: Tensor) -> Tensor:
    """The rows of all processes, rank 0's first; its backward pass adds up what every process asks of a row.

    Args:
        local_B: this process's rows, (B, ...); of one shape in all processes.

    Returns:
        (W x B, ...); `local_B` itself with one process.
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
