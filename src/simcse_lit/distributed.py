"""This process's rank, the number of processes, and reductions without gradient. With gradient: `objective/gather.py`."""

import torch.distributed as dist
from torch import Tensor


def world() -> tuple[int, int]:
    """Return (rank of this process, number of processes W); (0, 1) without a process group."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def sum_over_ranks(value: Tensor) -> Tensor:
    """Return the sum of a tensor over all processes, without gradient."""
    total = value.detach().clone()
    if world()[1] > 1:
        dist.all_reduce(total)
    return total


def min_over_ranks(value: Tensor) -> Tensor:
    """Return the elementwise minimum of a tensor over all processes, without gradient."""
    least = value.detach().clone()
    if world()[1] > 1:
        dist.all_reduce(least, dist.ReduceOp.MIN)
    return least


def mean_over_ranks(value: Tensor) -> Tensor:
    """Return the mean of a tensor over all processes, without gradient."""
    return sum_over_ranks(value) / world()[1]
