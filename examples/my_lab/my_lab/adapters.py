"""An adapter that learns one factor for each output of some linear layers."""

from torch import Tensor, nn, ones
from torch.nn.utils.parametrize import register_parametrization, remove_parametrizations
from transformers import PreTrainedModel

from simcse_lit.errors import UserError


class Scale(nn.Module):
    """Multiply each row of a weight by a trained factor, 1 at first."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(ones(rows, 1))

    def forward(self, weight: Tensor) -> Tensor:
        """Scale the weight, (outputs, inputs) to (outputs, inputs)."""
        return self.scale * weight


class Scaling:
    """Freeze a backbone and train one factor for each output of some linear layers.

    Args:
        layers: how the names of these layers end.

    Source: after (IA)^3, Liu et al. 2022, Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context
    Learning.
    """

    def __init__(self, layers: list[str]) -> None:
        self.layers = layers

    def _linear(self, backbone: PreTrainedModel) -> list[nn.Linear]:
        found = [module for name, module in backbone.named_modules() if name.endswith(tuple(self.layers))]
        return [module for module in found if isinstance(module, nn.Linear)]

    def add(self, backbone: PreTrainedModel) -> None:
        """Freeze the backbone and add the factors, in place. The vectors stay the same, because the factors are 1."""
        backbone.requires_grad_(False)
        linear = self._linear(backbone)
        if not linear:
            raise UserError(
                f"adapter.method.layers={self.layers}: no linear layer of {type(backbone).__name__} has such a name."
            )
        for module in linear:
            register_parametrization(module, "weight", Scale(module.out_features))

    def merge(self, backbone: PreTrainedModel) -> None:
        """Multiply the weights by the factors and remove the factors, in place."""
        for module in self._linear(backbone):
            remove_parametrizations(module, "weight", leave_parametrized=True)
