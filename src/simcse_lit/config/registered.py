"""Looks up parts of an encoder by name: ours, and those that installed packages register as entry points.

An export and a checkpoint record a part's name and arguments. Loading them looks the name up here and never builds a class
that the files name, since anyone may have written them.
"""

from collections.abc import Mapping
from importlib.metadata import packages_distributions
from typing import Any

from simcse_lit.config.installed import entries
from simcse_lit.errors import UserError, did_you_mean

TARGET = "_target_"
GROUPS = {"pooler": "simcse_lit.poolers", "projection": "simcse_lit.heads"}  # group of entry points for each kind of part
OURS: dict[str, dict[str, str | None]] = {
    "pooler": {
        "cls": "simcse_lit.encoder.pooling.CLS",
        "cls_before_pooler": "simcse_lit.encoder.pooling.CLS",  # config/checks/train.py forbids projecting it at evaluation
        "avg": "simcse_lit.encoder.pooling.Average",
        "avg_first_last": "simcse_lit.encoder.pooling.AverageFirstLast",
        "avg_top2": "simcse_lit.encoder.pooling.AverageTop2",
        "last_token": "simcse_lit.encoder.pooling.LastToken",
        "mask": "simcse_lit.encoder.pooling.MaskToken",
    },
    "projection": {
        "mlp": "simcse_lit.encoder.head.MLP",
        "mlp_train_only": "simcse_lit.encoder.head.MLP",
        "none": None,
        "batch_norm": "simcse_lit.methods.batch_norm_head.BatchNormMLP",
    },
}


def names(kind: str) -> list[str]:
    """List the registered names of a kind of part, ours first."""
    return [*OURS[kind], *sorted(entries(GROUPS[kind]).keys() - OURS[kind].keys())]


def named(kind: str, node: Any, key: str) -> dict[str, Any]:
    """Return a node of the configuration with the class that its name stands for.

    Args:
        kind: `pooler` or `projection`.
        node: a name; or a mapping with `name`, arguments, and optionally the class as `_target_`, which is then used.
        key: dotted key of the node, for messages.

    Raises:
        UserError: the name is missing or not registered.
    """
    whole: dict[str, Any] = {"name": node} if isinstance(node, str) else dict(node)
    name = whole.get("name")
    if not isinstance(name, str) or not name:
        raise UserError(f"{key}.name={name}: must be a name. Choose one of {', '.join(names(kind))}.")
    if TARGET in whole:
        return whole
    if name in OURS[kind]:
        return {**whole, TARGET: OURS[kind][name]}
    if entry := entries(GROUPS[kind]).get(name):
        return {**whole, TARGET: entry.value.replace(":", ".")}
    known = names(kind)
    raise UserError(
        f"{key}.name={name}: not one of {', '.join(known)} (or {key}._target_ names its class).{did_you_mean(name, known)}"
    )


def record(parts: Mapping[str, tuple[str, str | None, Mapping[str, Any]]]) -> dict[str, Any]:
    """Return what an export or a checkpoint stores of the parts, as plain values.

    Args:
        parts: for each kind the name, the class (None for no class) and the arguments.

    Returns:
        For each kind its name; under `parts`, the arguments and the package of each part that has them.
    """
    found: dict[str, Any] = {kind: name for kind, (name, _, _) in parts.items()}
    more: dict[str, Any] = {}
    for kind, (_, target, arguments) in parts.items():
        entry: dict[str, Any] = {"arguments": dict(arguments)} if arguments else {}
        if target and not target.startswith("simcse_lit."):
            entry["package"] = _package_of(target)
        more |= {kind: entry} if entry else {}
    return found | ({"parts": more} if more else {})


def recorded(section: Mapping[str, Any], kind: str, source: str, own: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the node of a part that an export or a checkpoint records, in the form of `named`.

    Args:
        section: what `record` made; it is not trusted.
        kind: `pooler` or `projection`.
        source: the export or checkpoint, for messages.
        own: node of the user's configuration, which may name the class of a part that no package registers.

    Raises:
        KeyError: no part of this kind is recorded.
        UserError: the vectors need a part that no installed package registers, or the section names code.
    """
    refuse_code(section, source)
    name, parts = section[kind], section.get("parts", {})
    entry = parts.get(kind, {}) if isinstance(parts, Mapping) else {}
    arguments, package = dict(entry.get("arguments", {})), entry.get("package")
    if own and own.get("name") == name and TARGET in own:
        return {"name": name, TARGET: own[TARGET], **arguments}
    if name not in names(kind) and arguments.get("when") == "training":
        return {"name": name, TARGET: None, "when": "training"}  # the vectors do not need this head
    if name not in names(kind):
        of = f" of the package {package}" if package else ""
        raise UserError(
            f"checkpoint: {source}: was made with {kind}={name}{of}, which is not installed here.\n"
            f"Install it. Or write `name: {name}` and `_target_: PACKAGE.CLASS` into FOLDER/{kind}/{name}.yaml, and type:\n"
            f"--config-dir FOLDER {kind}={name}"
        )
    return {"name": name, **arguments}


def _package_of(target: str) -> str:
    """Return the distribution that holds a class, or its top module if there is none."""
    module = target.partition(".")[0]
    return next(iter(packages_distributions().get(module, ())), module)


def refuse_code(recorded: Any, source: str) -> None:
    """Refuse a downloaded record that names a class or function to build.

    Args:
        recorded: plain containers from the download's files.
        source: the download, for the message.

    Raises:
        UserError: the record contains a `_target_`.
    """
    if isinstance(recorded, Mapping):
        if TARGET in recorded:
            raise UserError(
                f"checkpoint: {source}: asks to run code: {TARGET}={recorded[TARGET]}. It was not run.\n"
                "A model saved by simcse-lit has no such key: it lists its parts by registered names."
            )
        for value in recorded.values():
            refuse_code(value, source)
    elif isinstance(recorded, list):
        for value in recorded:
            refuse_code(value, source)
