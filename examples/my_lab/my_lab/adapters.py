"""An adapter: it learns how much each output of some linear layers counts."""

from torch import Tensor, nn, ones
from torch.nn.utils.parametrize import register_parametrization, remove_parametrizations
from transformers import PreTrainedModel

from simcse_lit.errors import UserError


class Scale(nn.Module):
    """Multiplies the rows of a weight by numbers that are learned."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(ones(rows, 1))

    def forward(self, weight: Tensor) -> Tensor:
        """(outputs, inputs) to the same."""
        return self.scale * weight


class Scaling:
    """Freezes a backbone, and trains one factor for each output of some linear layers.

    Args:
        layers: the ends of their names.

    Source: after (IA)^3, Liu et al. 2022, Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context
        Learning.
    """

    def __init__(self, layers: list[str]) -> None:
        self.layers = layers

    def _linear(self, backbone: PreTrainedModel) -> list[nn.Linear]:
        found = [module for name, module in backbone.named_modules() if name.endswith(tuple(self.layers))]
        return [module for module in found if isinstance(module, nn.Linear)]

    def add(self, backbone: PreTrainedModel) -> None:
        """In place; the factors are 1 at first."""
        backbone.requires_grad_(False)
        linear = self._linear(backbone)
        if not linear:
            raise UserError(f"adapter.method.layers={self.layers}: {type(backbone).__name__} has no such linear layers.")
        for module in linear:
            register_parametrization(module, "weight", Scale(module.out_features))

    def merge(self, backbone: PreTrainedModel) -> None:
        """In place: the weights become those that were computed with the factors."""
        for module in self._linear(backbone):
            remove_parametrizations(module, "weight", leave_parametrized=True)
