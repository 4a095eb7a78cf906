"""LoRA through peft: adds low-rank updates to a frozen backbone, and merges them into its weights.

The backbone keeps its class, so other code treats it as a backbone without an adapter.
"""

import warnings

from torch import nn
from transformers import PreTrainedModel

from simcse_lit.config.checks.train import WITHOUT_PEFT
from simcse_lit.config.schema import AdapterConfig
from simcse_lit.errors import UserError


def add_adapter(backbone: PreTrainedModel, config: AdapterConfig) -> None:
    """Freeze a backbone and add low-rank updates to it, in place; `adapter=none` changes nothing.

    A language-modelling head around the backbone stays trainable, except weights that it shares with the embeddings.

    Args:
        backbone: the backbone without a head or pooler.
        config: the group `adapter` of `conf/`.

    Raises:
        UserError: peft is not installed, or the backbone has no modules of the names in `config.target_modules`.

    Source: Hu et al. 2021, LoRA: Low-Rank Adaptation of Large Language Models, section 4.1.
    """
    if config.name == "none":
        return
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise UserError(WITHOUT_PEFT) from error
    assert config.r is not None and config.alpha is not None and config.dropout is not None  # validated
    lora = LoraConfig(r=config.r, lora_alpha=config.alpha, lora_dropout=config.dropout, target_modules=config.target_modules)
    names = [name for name, _ in backbone.named_modules()]
    targets = config.target_modules if isinstance(config.target_modules, list) else []
    absent = [target for target in targets if not any(f".{name}".endswith(f".{target}") for name in names)]
    try:
        if absent:  # peft raises only if no target is found
            raise ValueError(absent)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="fan_in_fan_out is set to")  # peft sets it right for GPT-2's Conv1D
            inject_adapter_in_model(lora, backbone)
    except ValueError as error:
        linear = sorted({name.rpartition(".")[2] for name, module in backbone.named_modules() if is_linear(module)})
        asked = config.target_modules if not absent else ", ".join(absent)
        wrong = "peft has no choice of its own for" if config.target_modules is None else f"no {asked} in"
        raise UserError(
            f"adapter.target_modules: {wrong} {type(backbone).__name__}.\n"
            f"Its linear layers: {', '.join(linear)}. Name some of them, or adapter.target_modules=all-linear."
        ) from error


def is_linear(module: nn.Module) -> bool:
    """Whether a module is a linear layer: torch's Linear, or Conv1D, which transformers uses in GPT-2."""
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def merge_adapter(backbone: PreTrainedModel) -> None:
    """Add the updates to the weights and remove the adapter, in place. The backbone computes the same function."""
    if not hasattr(backbone, "peft_config"):
        return
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, layer in list(backbone.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            layer.merge()
            parent, _, leaf = name.rpartition(".")
            setattr(backbone.get_submodule(parent), leaf, layer.get_base_layer())
    del backbone.peft_config
