"""Parts of an encoder by name: ours, and those that installed packages register by an entry point.

An export and a checkpoint record a name and arguments. Whoever loads them looks the name up here, and builds no class that
the files name, since anyone may have written them.
"""

from collections.abc import Mapping
from importlib.metadata import packages_distributions
from typing import Any

from simcse_lit.config.installed import entries
from simcse_lit.errors import UserError, did_you_mean

TARGET = "_target_"
GROUPS = {"pooler": "simcse_lit.poolers", "projection": "simcse_lit.heads"}  # the entry points of each kind of part
OURS: dict[str, dict[str, str | None]] = {
    "pooler": {
        "cls": "simcse_lit.encoder.pooling.CLS",
        "cls_before_pooler": "simcse_lit.encoder.pooling.CLS",  # config/checks/train.py keeps it from being projected
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
    },
}


def names(kind: str) -> list[str]:
    """The names that are registered here, ours first."""
    return [*OURS[kind], *sorted(entries(GROUPS[kind]).keys() - OURS[kind].keys())]


def named(kind: str, node: Any, key: str) -> dict[str, Any]:
    """A node of the configuration, or a name alone, with the class that the name stands for.

    Args:
        kind: `pooler` or `projection`.
        node: a name; or a mapping of `name`, arguments, and perhaps the class itself by `_target_`, which is then taken.
        key: where the node stands, for messages.

    Raises:
        UserError: there is no name, or nothing is registered under it.
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
    """What an export or a checkpoint keeps of the parts, in plain values.

    Args:
        parts: by kind the name, the class (None for none) and the arguments.

    Returns:
        By kind the name; and under `parts`, for those that have arguments or come from another package, these.
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
    """The node of a part that an export or a checkpoint records, as for `named`.

    Args:
        section: what `record` made; anyone may have written it.
        kind: `pooler` or `projection`.
        source: the export or checkpoint, for messages.
        own: the node of the user's own configuration, which may name the class of a part that no package registers.

    Raises:
        KeyError: nothing is recorded of this kind.
        UserError: no package that is installed registers the name and the vectors need it, or code is named.
    """
    refuse_code(section, source)
    name, parts = section[kind], section.get("parts", {})
    entry = parts.get(kind, {}) if isinstance(parts, Mapping) else {}
    arguments, package = dict(entry.get("arguments", {})), entry.get("package")
    if own and own.get("name") == name and TARGET in own:
        return {"name": name, TARGET: own[TARGET], **arguments}
    if name not in names(kind) and arguments.get("when") == "training":
        return {"name": name, TARGET: None, "when": "training"}  # a head that the vectors do not need
    if name not in names(kind):
        of = f" of the package {package}" if package else ""
        raise UserError(
            f"checkpoint: {source}: was made with {kind}={name}{of}, which is not installed here.\n"
            f"Install it, or name the class yourself: +{kind}.name={name} +{kind}._target_=PACKAGE.CLASS"
        )
    return {"name": name, **arguments}


def _package_of(target: str) -> str:
    """The distribution that holds a class, or its top module if none does."""
    module = target.partition(".")[0]
    return next(iter(packages_distributions().get(module, ())), module)


def refuse_code(recorded: Any, source: str) -> None:
    """Refuse what a download records if it names a class or function to build.

    Args:
        recorded: plain containers from its files.
        source: the download, for the message.

    Raises:
        UserError: there is a `_target_` in it.
    """
    if isinstance(recorded, Mapping):
        if TARGET in recorded:
            raise UserError(
                f"checkpoint: {source}: names code to be run, {TARGET}={recorded[TARGET]}. Nothing of it was run.\n"
                "A saved model names its parts by registered names; simcse-lit writes no such key."
            )
        for value in recorded.values():
            refuse_code(value, source)
    elif isinstance(recorded, list):
        for value in recorded:
            refuse_code(value, source)
