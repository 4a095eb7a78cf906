"""Keeps less of a forward pass for the backward pass: GELU's output is computed again from GELU's input, which is kept.

Between the two matrices of a layer stands GELU, four times as wide as the layer. Its own gradient needs its input, the next
matrix's gradient its output, and the output follows from the input at little cost. The gradient is the
same to the last bit. Called by `gradient_cache.py`.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks


def recomputed_gelu() -> saved_tensors_hooks:
    """A context in which a forward pass keeps GELU's inputs and not its outputs, whatever the backbone."""
    return saved_tensors_hooks(_keep, _restore)


def _keep(tensor: Tensor) -> Any:
    """The tensor; of GELU's output, or another shape of it, GELU's node in the graph, which has the input."""
    node = tensor.grad_fn
    while node is not None and node.name() in ("ViewBackward0", "UnsafeViewBackward0"):
        node = node.next_functions[0][0]
    if node is None or node.name() != "GeluBackward0":
        return tensor.detach()  # an output kept with its graph would hold itself
    return node, tensor.shape


@torch.no_grad()
def _restore(kept: Any) -> Tensor:
    if isinstance(kept, Tensor):
        return kept
    node, shape = kept
    return F.gelu(node._saved_self, approximate=node._saved_approximate).view(shape)
