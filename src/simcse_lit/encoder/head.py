"""The head: it stands between the pooled vectors and the loss. The group `projection` of the configuration chooses it.

In training, the head runs once on all sentences of the process, after the chunks are joined. So batch statistics are
those of the whole batch, for any `trainer.micro_batch_size` and any number of devices.

Shapes: N sentences of this process, D numbers of a vector.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from simcse_lit.config.extension import build, prepare
from simcse_lit.config.registered import TARGET, named
from simcse_lit.errors import UserError
from simcse_lit.objective.gather import gather_rows

WHEN = {
    "mlp": "always",
    "mlp_train_only": "training",
    "batch_norm": "training",
    "none": "training",
}  # of our heads; others have `when` in their node


class MLP(nn.Module):
    """Apply one linear layer and tanh. The weights start as N(0, 0.02) and the bias as 0.

    The layer never starts from the pretrained pooler of BERT, which was trained to predict the next sentence.

    Args:
        width: numbers of a vector, D.

    Source: SimCSE section 6.3, "MLP".
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense: nn.Linear = nn.Linear(width, width)
        nn.init.normal_(self.dense.weight, std=0.02)
        nn.init.zeros_(self.dense.bias)

    def forward(self, pooled_ND: Tensor) -> Tensor:
        """Project vectors, (N, D) to (N, D), to numbers between -1 and 1."""
        return torch.tanh(self.dense(pooled_ND))


class BatchNorm(nn.Module):
    """Normalise with the batch statistics of all processes, and their gradient: `torch.nn.SyncBatchNorm` on any device.

    The running statistics are the same in all processes.

    Args:
        width: numbers of a vector, D.
        eps: added to the variance.
        momentum: share of the newest batch in the running statistics.
        affine: train a scale and a shift.

    Source: Ioffe and Szegedy 2015, Batch Normalization, algorithms 1 and 2.
    """

    def __init__(self, width: int, *, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(width)) if affine else None
        self.bias = nn.Parameter(torch.zeros(width)) if affine else None
        self.running_mean: Tensor
        self.running_var: Tensor
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, vectors_ND: Tensor) -> Tensor:
        """Normalise vectors, (N, D) to (N, D), in float32 or better. At evaluation, use the running statistics."""
        dtype = vectors_ND.dtype
        exact_ND = vectors_ND.to(torch.promote_types(dtype, torch.float32))
        if not self.training:
            mean_D, var_D = self.running_mean, self.running_var
            return F.batch_norm(exact_ND, mean_D, var_D, self.weight, self.bias, eps=self.eps).to(dtype)
        count_D = torch.full_like(exact_ND[0], len(exact_ND))
        total_D, count_D = gather_rows(torch.stack([exact_ND.sum(0), count_D])[None]).sum(0)
        mean_D = total_D / count_D
        centred_ND = exact_ND - mean_D
        variance_D = gather_rows(centred_ND.square().sum(0, keepdim=True)).sum(0) / count_D
        with torch.no_grad():
            self.running_mean.lerp_(mean_D, self.momentum)
            self.running_var.lerp_(variance_D * count_D / (count_D - 1).clamp(min=1), self.momentum)
        normal_ND: Tensor = centred_ND * (variance_D + self.eps).rsqrt()
        if self.weight is not None and self.bias is not None:
            normal_ND = normal_ND * self.weight + self.bias
        return normal_ND.to(dtype)


@dataclass(frozen=True)
class Head:
    """A head that is not built yet, because it needs the width of the vectors.

    Args:
        name: the registered name.
        when: `always`; or `training`, where evaluation and use read the pooled vectors.
        target: the class; None for no head.
        arguments: arguments of the class, plain values only. An export records them.
    """

    name: str
    when: Literal["training", "always"]
    target: str | None
    arguments: Mapping[str, Any]

    def make(self, width: int) -> nn.Module | None:
        """Build the module with new weights, for vectors (N, `width`); None for no head.

        Raises:
            UserError: the class cannot be built with these arguments.
        """
        if self.target is None:
            return None
        made = build({TARGET: self.target, **self.arguments}, "projection", width=width)
        if not isinstance(made, nn.Module):
            raise UserError(f"projection._target_={self.target}: is not a torch.nn.Module.")
        return made


def head(node: str | Mapping[str, Any], key: str = "projection") -> Head:
    """Read the head from a node of the configuration.

    Args:
        node: the registered name; or a mapping with `name`, `when`, arguments, and optionally the class as `_target_`. The
            class also takes the width of the vectors as `width`.
        key: where the node is in the configuration, for messages.

    Raises:
        UserError: there is no such head, or it does not take these arguments.

    Example:
        A head for training only::

            head({"name": "projector", "_target_": "my_lab.heads.Projector", "when": "training", "wide": 256})
    """
    whole = named("projection", node, key)
    name, target = str(whole["name"]), whole[TARGET]
    when = whole.get("when", WHEN.get(name))
    if when not in ("training", "always"):
        raise UserError(f"{key}.when={when}: must be training, or always to use the head at evaluation too.")
    arguments = {argument: value for argument, value in whole.items() if argument not in ("name", "when", TARGET)}
    if target is None and arguments:
        raise UserError(f"{key}.{next(iter(arguments))}: {name} takes no arguments.")
    if target is not None:
        prepare({TARGET: target, **arguments}, key, ["width"])
    return Head(name, when, target, arguments)
