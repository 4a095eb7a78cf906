"""Adapters: they train something smaller in place of the weights of a backbone, and are merged into them for an export.

A checkpoint records the registered name and the arguments of an adapter. It never names a class to import, because anyone
may have written the file. `lora.py` has our own adapter.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from hydra.utils import get_object
from transformers import PreTrainedModel

from simcse_lit.config.extension import build
from simcse_lit.config.installed import entries, installed, package_of
from simcse_lit.config.moved import targets
from simcse_lit.config.schema import AdapterConfig
from simcse_lit.encoder.lora import LoRA
from simcse_lit.errors import UserError

ADAPTERS = "simcse_lit.adapters"  # the entry points, beside OURS
OURS: dict[str, Callable[..., "Adapter"]] = {"lora": LoRA}
METHOD = "adapter.method"
ADDED = "_simcse_adapter"  # the attribute of a backbone with an adapter


class Adapter(Protocol):
    """Something that is trained in place of the weights of a backbone.

    While it is there, its parameters are parameters of the backbone.
    """

    def add(self, backbone: PreTrainedModel) -> None:
        """Freeze a backbone and add what is trained, in place. The backbone keeps its class and computes the same vectors.

        Args:
            backbone: a backbone without a head or pooler.
        """

    def merge(self, backbone: PreTrainedModel) -> None:
        """Undo `add` in place, and change the weights so that the backbone computes what it computed with the adapter.

        Args:
            backbone: a backbone that `add` has changed.
        """


def build_adapter(config: AdapterConfig) -> Adapter | None:
    """Build the adapter of the group `adapter` of the configuration; None for `adapter=none`.

    Raises:
        UserError: it cannot be built, it is not an adapter, or another adapter is registered under its name.
    """
    if config.method is None:
        return None
    for key, _ in targets(_arguments(config), f"{METHOD}."):
        raise UserError(f"{key}: the arguments of an adapter must be numbers, texts, and lists and groups of them.")
    made = build(config.method, METHOD)
    target = config.method["_target_"]
    if not callable(getattr(made, "add", None)) or not callable(getattr(made, "merge", None)):
        raise UserError(f"{METHOD}._target_={target}: is not an adapter: it needs add(backbone) and merge(backbone).")
    registered = _registered(config.name)
    if registered is not None and registered is not get_object(target):
        raise UserError(f"adapter.name={config.name}: another adapter has this name. Give {target} another name.")
    adapter: Adapter = made
    return adapter


def record(config: AdapterConfig) -> dict[str, Any]:
    """Return what a checkpoint records about the adapter: name, arguments, and for messages its package."""
    if config.method is None:
        return {"name": config.name}
    entry = entries(ADAPTERS).get(config.name)
    package = package_of(entry) if entry else str(config.method["_target_"]).partition(".")[0]
    return {"name": config.name, "package": package, "arguments": _arguments(config)}


def recorded_adapter(recorded: Mapping[str, Any], source: str) -> Adapter | None:
    """Build the adapter that a checkpoint records, from its registered name and its arguments.

    Args:
        recorded: the result of `record`, also of a version that stored the arguments beside the name.
        source: the checkpoint, for messages.

    Raises:
        UserError: no installed package has an adapter with this name.
        TypeError: the adapter does not take these arguments.
    """
    name = str(recorded["name"])
    if name == "none":
        return None
    registered = _registered(name)
    if registered is None:
        package = recorded.get("package")
        way = f"pip install {package}" if package else "install the package that has it"
        raise UserError(f"checkpoint: {source}: was trained with adapter={name}, which no installed package has: {way}.")
    arguments = recorded.get("arguments", {key: value for key, value in recorded.items() if key != "name"})
    return registered(**arguments)


def add_adapter(backbone: PreTrainedModel, adapter: Adapter | None) -> None:
    """Add an adapter to a backbone, in place; None changes nothing."""
    if adapter is None:
        return
    names = set(backbone.state_dict())
    adapter.add(backbone)
    object.__setattr__(backbone, ADDED, (adapter, names))  # not a module of the backbone, even if the adapter is a module


def merge_adapter(backbone: PreTrainedModel) -> None:
    """Merge what `add_adapter` has added into the weights, in place. The backbone computes the same vectors.

    Raises:
        UserError: after the merge, the weights have other names than before the adapter was added.
    """
    adapter, names = vars(backbone).pop(ADDED, (None, set()))
    if adapter is None:
        return
    adapter.merge(backbone)
    if left := names ^ set(backbone.state_dict()):
        raise UserError(
            f"{METHOD}: {type(adapter).__name__}.merge must leave the names of the weights that were there before add; "
            f"these differ: {', '.join(sorted(left)[:3])}."
        )


def _registered(name: str) -> Callable[..., Adapter] | None:
    return OURS.get(name) or installed(ADAPTERS, name)


def _arguments(config: AdapterConfig) -> dict[str, Any]:
    return {key: value for key, value in config.method.items() if key != "_target_"}
