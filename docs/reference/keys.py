"""The rows of keys: the type, the default and the explanation of each, and the keys of a command that belong to no group."""

import re
from dataclasses import fields, is_dataclass, replace
from inspect import formatannotation
from pathlib import Path
from typing import Any

from conf_files import CONF, Entry, read
from docstrings import arguments, first_line
from groups import GROUPS, Group
from markup import code, markdown, table

from simcse_lit.cli.verbs import COMPOSED
from simcse_lit.config.schema import HOLDS, SCHEMAS

HEADS = ["key", "type", "default", "what it does"]
KINDS = {"seq": "list", "map": "mapping", "null": ""}  # of YAML, in words


def keys_of_group(group: Group, page: Path) -> str:
    """Return the table of a group's keys; empty if it has none."""
    verb = next(iter(group.chosen))
    rows = [row(entry, verb, default_in_group(entry.key, group), page) for entry in group.entries]
    return table(HEADS, rows) if rows else ""


def keys_of_verb(verb: str, page: Path) -> str:
    """Return the table of a command's own keys."""
    return table(HEADS, [row(entry, verb, default(entry), page) for entry in own_entries(verb)])


def row(entry: Entry, verb: str, value: str, page: Path) -> list[str]:
    """Return the row of a key."""
    return [code(entry.key), type_of(entry, verb), value, markdown(explanation(entry), page)]


def own_entries(verb: str) -> list[Entry]:
    """Return the keys of a command that belong to no group."""
    shared = {entry.key: entry.explanation for entry in GROUPS["encoder"].entries}
    return [
        replace(entry, explanation=entry.explanation or shared.get(entry.key, ""))
        for entry in read(CONF / f"{verb}.yaml").entries
        if entry.key != "run_dir" and not entry.key.startswith("hydra.")
    ]


def unexplained() -> list[str]:
    """Return the keys that no comment and no docstring explains."""
    found = [entry.key for group in GROUPS.values() for entry in group.entries if not explanation(entry)]
    return found + [f"{verb}: {entry.key}" for verb in COMPOSED for entry in own_entries(verb) if not explanation(entry)]


def explanation(entry: Entry) -> str:
    """Return the comment of a key, else what the docstring of its class says of the argument."""
    name = entry.key.rpartition(".")[2]
    if entry.explanation:
        return entry.explanation
    if entry.value is None:
        return first_line(entry.target)
    _, said = arguments(entry.target).get(name, ("", ""))
    if said:
        return said.removesuffix(".")
    if name == "_target_":
        return "the class or function that is called; the keys beside it are its arguments"
    return f"argument of {entry.target}" if entry.target and not entry.target.startswith("simcse_lit") else ""


def type_of(entry: Entry, verb: str) -> str:
    """Return the type of a key in words: that of the schema, else of the argument's annotation, else of the value."""
    if entry.value is None:
        return f"node: `{entry.target.rpartition('.')[2]}`" if entry.target else "node"
    annotation, _ = arguments(entry.target).get(entry.key.rpartition(".")[2], ("", ""))
    guessed = "" if entry.value.startswith(("${", "???")) else KINDS.get(entry.kind, f"`{entry.kind}`")
    return in_schema(entry.key, verb) or in_words(annotation) or guessed


def in_schema(key: str, verb: str) -> str:
    """Return the type that the schema of a command gives a key, in words; empty if it gives none."""
    held: Any = SCHEMAS[verb]
    for part in key.split("."):
        named = {each.name: each for each in fields(held)} if is_dataclass(held) else {}
        if part not in named:
            return ""
        held = named[part].metadata.get(HOLDS) or named[part].type
    return held if isinstance(held, str) else in_words(formatannotation(held))


def in_words(annotation: str) -> str:
    """Return a type as its source writes it, in words; empty if it may be anything."""
    if annotation in ("", "Any"):
        return ""
    shown = []
    for part in annotation.split(" | "):
        items = re.fullmatch(r"(?:Sequence|list)\[(\w+)\]", part)
        if items:
            shown.append(f"list of `{items[1]}`")
        elif part.startswith(("Mapping", "dict")):
            shown.append("mapping")
        else:
            shown.append("null" if part == "None" else "list" if "[" in part else code(part))
    return " or ".join(shown)


def default_in_group(key: str, group: Group) -> str:
    """Return the default that the options of a group share, else that of each option which has the key."""
    if group.base and (entry := group.base[key]):
        return default(entry)
    having = {option: default(entry) for option, file in group.options.items() if (entry := file[key])}
    same = len(set(having.values())) == 1
    if not same:
        return ", ".join(f"`{option}`: {value}" for option, value in having.items())
    value = next(iter(having.values()))
    if not value or len(having) == len(group.options) or group.leaf(key).startswith(tuple(having)):
        return value
    return f"{', '.join(map(code, having))}: {value}"


def default(entry: Entry) -> str:
    """Return the default of a key; a required key has that of the recipes, if they set it."""
    if entry.value is None:
        return ""
    if entry.value != "???":
        return code(entry.value)
    recipes = {name: read(CONF / "recipe" / f"{name}.yaml")[entry.key] for name in ("unsup", "sup")}
    values = {name: default(recipe) for name, recipe in recipes.items() if recipe}
    if not values:
        return "*required*"
    same = len(set(values.values())) == 1
    listed = values["sup"] if same else ", ".join(f"{value} (`{name}`)" for name, value in values.items())
    return f"[recipe](loss.md#recipe): {listed}"
