"""The AdamW of the paper's code, for `optimizer=adamw_paper`. The default is torch's."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class AdamW(Optimizer):
    """AdamW of the transformers release of 2021, which adds eps outside the bias correction.

    Let m and v be the running means of the gradient and of its square. Step t subtracts
    lr * sqrt(1 - beta2^t) / (1 - beta1^t) * m / (sqrt(v) + eps) from each weight, and then lr * weight_decay times the
    weight.

    `torch.optim.AdamW` adds eps to sqrt(v / (1 - beta2^t)) instead. Compared with that, this eps acts as
    eps / sqrt(1 - beta2^t): with the paper's 1e-8 and 0.999, 3e-7 at step 1, 1e-7 at step 10, and 1e-8 from about step
    15,000. Weights whose gradient is near eps move less in the first steps; for all others the two agree.

    Args:
        params: parameters, or groups of them.
        lr: learning rate.
        betas: decay rates of the two running means.
        eps: added to the root of the mean square, without bias correction.
        weight_decay: share of a weight, times `lr`, that a step subtracts.

    Raises:
        ValueError: an argument is out of range.

    Source: transformers 4.2, `optimization.AdamW` with `correct_bias=True`; Loshchilov and Hutter 2019, algorithm 2.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        betas: Sequence[float],
        eps: float,
        weight_decay: float,
    ) -> None:
        beta1, beta2 = betas
        if not (0 <= beta1 < 1 and 0 <= beta2 < 1):
            raise ValueError(f"betas={[beta1, beta2]}: must be at least 0 and below 1")
        if eps < 0:
            raise ValueError(f"eps={eps}: must be 0 or greater")
        super().__init__(params, {"lr": lr, "betas": (beta1, beta2), "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every weight that has a gradient; return the result of `closure`."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if weights:
                self._update(weights, group)
        return loss

    def _update(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        """Take one step, with one kernel for all weights if the device has such kernels."""
        (beta1, beta2), lr, eps, weight_decay = (group[name] for name in ("betas", "lr", "eps", "weight_decay"))
        states = [self.state[weight] for weight in weights]
        for weight, state in zip(weights, states, strict=True):
            if not state:
                state |= {"step": 0, "exp_avg": torch.zeros_like(weight), "exp_avg_sq": torch.zeros_like(weight)}
            state["step"] += 1
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        means, squares = ([state[name] for state in states] for name in ("exp_avg", "exp_avg_sq"))
        torch._foreach_mul_(means, beta1)
        torch._foreach_add_(means, gradients, alpha=1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - beta2)
        roots = torch._foreach_sqrt(squares)
        torch._foreach_add_(roots, eps)
        sizes = [lr * math.sqrt(1 - beta2 ** state["step"]) / (1 - beta1 ** state["step"]) for state in states]
        torch._foreach_addcdiv_(weights, means, roots, [-size for size in sizes])
        if weight_decay:
            torch._foreach_add_(weights, weights, alpha=-lr * weight_decay)
