"""LoRA, with peft: low-rank updates of a frozen backbone, which keeps its class. `adapter.py` builds adapters."""

import warnings
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from simcse_lit.config.checks.train import WITHOUT_PEFT
from simcse_lit.errors import UserError


@dataclass(frozen=True)
class LoRA:
    """Train low-rank updates of linear layers.

    A language-modelling head of the backbone stays trainable, except the weights that it shares with the embeddings.

    Args:
        r: rank of an update.
        alpha: an update is scaled by alpha / r.
        dropout: rate of the dropout before each update.
        target_modules: how the names of the layers end; `all-linear`; or None for peft's choice for the architecture.

    Source: Hu et al. 2021, LoRA: Low-Rank Adaptation of Large Language Models, section 4.1.
    """

    r: int
    alpha: int
    dropout: float
    target_modules: str | list[str] | None = None

    def add(self, backbone: PreTrainedModel) -> None:
        """Freeze a backbone and add the updates to it, in place.

        Raises:
            UserError: peft is not installed, or the backbone has no modules with these names.
        """
        try:
            from peft import LoraConfig, inject_adapter_in_model
        except ImportError as error:
            raise UserError(WITHOUT_PEFT) from error
        lora = LoraConfig(r=self.r, lora_alpha=self.alpha, lora_dropout=self.dropout, target_modules=self.target_modules)
        names = [name for name, _ in backbone.named_modules()]
        targets = self.target_modules if isinstance(self.target_modules, list) else []
        absent = [target for target in targets if not any(f".{name}".endswith(f".{target}") for name in names)]
        try:
            if absent:  # peft raises only if it finds no target at all
                raise ValueError(absent)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="fan_in_fan_out is set to")  # it is already right for GPT-2
                inject_adapter_in_model(lora, backbone)
        except ValueError as error:
            linear = sorted({name.rpartition(".")[2] for name, module in backbone.named_modules() if _is_linear(module)})
            asked = self.target_modules if not absent else ", ".join(absent)
            wrong = "peft has no default for" if self.target_modules is None else f"no {asked} in"
            raise UserError(
                f"adapter.target_modules: {wrong} {type(backbone).__name__}.\n"
                f"Its linear layers: {', '.join(linear)}. Name some of them, or adapter.target_modules=all-linear."
            ) from error

    def merge(self, backbone: PreTrainedModel) -> None:
        """Add the updates to the weights and remove them, in place."""
        from peft.tuners.tuners_utils import BaseTunerLayer

        for name, layer in list(backbone.named_modules()):
            if isinstance(layer, BaseTunerLayer):
                layer.merge()
                parent, _, leaf = name.rpartition(".")
                setattr(backbone.get_submodule(parent), leaf, layer.get_base_layer())
        del backbone.peft_config


def _is_linear(module: nn.Module) -> bool:
    """Tell whether a module is a linear layer: Linear of torch, or Conv1D, which transformers uses in GPT-2."""
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"
