"""Adapters: what is trained in a backbone in place of its weights, and is merged into them for an export.

A checkpoint records an adapter by the name under which it is registered, and by its arguments. It never says what is
imported, since whoever made it could have written anything there.
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
ADDED = "_simcse_adapter"  # the attribute of a backbone that has one


class Adapter(Protocol):
    """What is trained in place of a backbone's weights; its parameters are the backbone's own while it is there."""

    def add(self, backbone: PreTrainedModel) -> None:
        """Freeze a backbone and add to it what is trained, in place. It keeps its class, and computes the same at first.

        Args:
            backbone: without a head or pooler.
        """

    def merge(self, backbone: PreTrainedModel) -> None:
        """Undo `add`, in place, with weights by which the backbone computes what it computed with the adapter."""


def build_adapter(config: AdapterConfig) -> Adapter | None:
    """The adapter of the group `adapter` of `conf/`; None for `adapter=none`.

    Raises:
        UserError: it cannot be built, is no adapter, or another adapter is registered under its name.
    """
    if config.method is None:
        return None
    for key, _ in targets(_arguments(config), f"{METHOD}."):
        raise UserError(f"{key}: the arguments of an adapter are numbers, texts, and lists and groups of them.")
    made = build(config.method, METHOD)
    target = config.method["_target_"]
    if not callable(getattr(made, "add", None)) or not callable(getattr(made, "merge", None)):
        raise UserError(f"{METHOD}._target_={target}: has no add(backbone) and merge(backbone), so it is no adapter.")
    registered = _registered(config.name)
    if registered is not None and registered is not get_object(target):
        raise UserError(f"adapter.name={config.name}: another adapter has this name. Give {target} a name of its own.")
    adapter: Adapter = made
    return adapter


def record(config: AdapterConfig) -> dict[str, Any]:
    """What a checkpoint says of the adapter: its name, its arguments, and the package that brings it, for messages."""
    if config.method is None:
        return {"name": config.name}
    entry = entries(ADAPTERS).get(config.name)
    package = package_of(entry) if entry else str(config.method["_target_"]).partition(".")[0]
    return {"name": config.name, "package": package, "arguments": _arguments(config)}


def recorded_adapter(recorded: Mapping[str, Any], source: str) -> Adapter | None:
    """The adapter that a checkpoint records: what is registered under that name, made with these arguments.

    Args:
        recorded: by `record`, or by a version that had the arguments beside the name.
        source: the checkpoint, for messages.

    Raises:
        UserError: no installed package brings an adapter of this name.
        TypeError: it takes no such arguments.
    """
    name = str(recorded["name"])
    if name == "none":
        return None
    registered = _registered(name)
    if registered is None:
        package = recorded.get("package")
        way = f"pip install {package}" if package else "install the package that brings it"
        raise UserError(f"checkpoint: {source}: was trained with adapter={name}, which no installed package brings: {way}.")
    arguments = recorded.get("arguments", {key: value for key, value in recorded.items() if key != "name"})
    return registered(**arguments)


def add_adapter(backbone: PreTrainedModel, adapter: Adapter | None) -> None:
    """Add an adapter to a backbone, in place; None changes nothing."""
    if adapter is None:
        return
    names = set(backbone.state_dict())
    adapter.add(backbone)
    object.__setattr__(backbone, ADDED, (adapter, names))  # which is no module of the backbone, even if it is a module


def merge_adapter(backbone: PreTrainedModel) -> None:
    """Merge what `add_adapter` has added into the weights, in place. The backbone computes the same function.

    Raises:
        UserError: the adapter leaves other weights than there were before it.
    """
    adapter, names = vars(backbone).pop(ADDED, (None, set()))
    if adapter is None:
        return
    adapter.merge(backbone)
    if left := names ^ set(backbone.state_dict()):
        raise UserError(
            f"{METHOD}: {type(adapter).__name__}.merge leaves no plain model: {', '.join(sorted(left)[:3])} should "
            "not be there, or should."
        )


def _registered(name: str) -> Callable[..., Adapter] | None:
    return OURS.get(name) or installed(ADAPTERS, name)


def _arguments(config: AdapterConfig) -> dict[str, Any]:
    return {key: value for key, value in config.method.items() if key != "_target_"}
