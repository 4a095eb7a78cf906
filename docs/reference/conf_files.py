"""Reads what `conf/` says: the head of each file, its keys with their values, and the comment that explains each key.

PyYAML drops comments, but it knows where each key and value ends, so a comment is what follows on the line.
"""

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"
PREFIXES = {"classifier": "tasks.NAME.classifier", "encoder": ""}  # of groups whose keys stand elsewhere


@dataclass(frozen=True)
class Entry:
    """A key of a file.

    Args:
        key: its name with dots, from the root of the configuration.
        value: its value; None for a key that holds others.
        explanation: its comment.
        target: what the node that holds it is made of (`_target_`).
    """

    key: str
    value: str | None
    explanation: str
    target: str = ""


@dataclass(frozen=True)
class ConfFile:
    """A file of `conf/`.

    Args:
        path: where it is.
        head: the comment at its start, a line each.
        entries: its keys, in order.
        defaults: its defaults list: (what is chosen, the choice).
    """

    path: Path
    head: list[str]
    entries: list[Entry]
    defaults: list[tuple[str, str]] = field(default_factory=list)

    def __getitem__(self, key: str) -> Entry | None:
        """The entry of a key, if the file has it."""
        return next((entry for entry in self.entries if entry.key == key), None)


@cache
def read(path: Path) -> ConfFile:
    """Read a file of `conf/`."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    first = next((number for number, line in enumerate(lines) if not line.startswith("#")), len(lines))
    head = [line.removeprefix("#").removeprefix(" ").rstrip() for line in lines[:first]]
    package = "@package _global_" in head
    group = path.parent.relative_to(CONF).as_posix()
    prefix = "" if package or group == "." else PREFIXES.get(group, group.replace("/", "."))
    root = yaml.compose(text)
    entries = list(_entries(root, prefix, lines)) if isinstance(root, yaml.MappingNode) else []
    loaded = yaml.safe_load(text) or {}
    defaults = [_choice(entry) for entry in loaded.get("defaults", [])]
    return ConfFile(path, [line for line in head if not line.startswith("@package")], entries, defaults)


def _choice(entry: Any) -> tuple[str, str]:
    if isinstance(entry, dict):
        ((name, value),) = entry.items()
        return str(name), "null" if value is None else flow(value)
    return "", str(entry)


def _entries(node: yaml.MappingNode, prefix: str, lines: Sequence[str], top: bool = True) -> Iterator[Entry]:
    """The keys below a node. A node that holds keys has its own entry if it is explained or has a `_target_`."""
    target = next((value.value for key, value in node.value if key.value == "_target_"), "")
    for key, value in node.value:
        if top and key.value == "defaults":
            continue
        name = f"{prefix}.{key.value}" if prefix else key.value
        explanation = comment(lines, key, value)
        if isinstance(value, yaml.MappingNode) and value.value:
            own = next((held.value for name, held in value.value if name.value == "_target_"), "")
            if explanation or own:
                yield Entry(name, None, explanation, own)
            yield from _entries(value, name, lines, top=False)
        elif key.value != "_target_" or top:
            yield Entry(name, source(value), explanation, target)


def source(node: yaml.Node) -> str:
    """A value as one would write it on one line."""
    if isinstance(node, yaml.ScalarNode) and node.value != "":
        return str(node.value)
    return flow(yaml.SafeLoader("").construct_document(node))


def flow(value: Any) -> str:
    """A value in YAML's flow style."""
    if value == "":
        return '""'
    if isinstance(value, list) and all(isinstance(each, (str, int, float)) for each in value):
        return f"[{', '.join(str(each) for each in value)}]"
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6)
    return text.removesuffix("\n").removesuffix("...").strip()


def comment(lines: Sequence[str], key: yaml.Node, value: yaml.Node) -> str:
    """The comment of a key: behind it and on the next lines in the same column, else in the lines above it."""
    mark = key.end_mark if isinstance(value, yaml.MappingNode) and value.value and not value.flow_style else value.end_mark
    if isinstance(value, yaml.SequenceNode) and value.value and not value.flow_style:
        mark = key.end_mark
    line = lines[mark.line] if mark.line < len(lines) else ""
    behind = line[mark.column :].lstrip(":").strip()
    if behind.startswith("#"):
        column = line.index("#", mark.column)
        words = [behind.lstrip("# ")]
        for below in lines[mark.line + 1 :]:
            if below[:column].strip() or not below[column:].startswith("#"):
                break
            words.append(below[column:].lstrip("# "))
        return " ".join(words)
    above: list[str] = []
    indent = " " * key.start_mark.column + "#"
    for number in range(key.start_mark.line - 1, -1, -1):
        if not lines[number].startswith(indent):
            break
        above.insert(0, lines[number].lstrip("# "))
    at_the_head = key.start_mark.line == len(above)  # that is of the file
    return "" if at_the_head else " ".join(above)


@cache
def arguments(target: str) -> dict[str, tuple[str, str]]:
    """The type and the explanation of each argument of a class or function of ours, from its source."""
    module, _, name = target.rpartition(".")
    file = ROOT / "src" / f"{module.replace('.', '/')}.py"
    if not file.is_file():
        return {}
    tree = ast.parse(file.read_text(encoding="utf-8"))
    found = {node.name: node for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
    if name not in found:
        return {}
    node = found[name]
    types: dict[str, str] = {}
    said = documented(ast.get_docstring(node) or "")
    if isinstance(node, ast.ClassDef):
        types = {
            each.target.id: ast.unparse(each.annotation)
            for each in node.body
            if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
        }
        for base in node.bases:
            if isinstance(base, ast.Name) and base.id in found:
                inherited = arguments(f"{module}.{base.id}")
                said = {name: text for name, (_, text) in inherited.items()} | said
                types = {name: kind for name, (kind, _) in inherited.items()} | types
        init = next((each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"), None)
        said |= documented(ast.get_docstring(init) or "") if init else {}
    else:
        init = node
    if init:
        for each in [*init.args.args, *init.args.kwonlyargs]:
            if each.annotation:
                types[each.arg] = ast.unparse(each.annotation)
    return {name: (types.get(name, ""), said.get(name, "")) for name in {**types, **said} if not name.startswith("_")}


def documented(docstring: str) -> dict[str, str]:
    """The `Args:` of a Google docstring."""
    found = re.search(r"^Args:\n((?:    .*\n?|\n)+)", docstring, re.MULTILINE)
    told: dict[str, str] = {}
    for line in (found[1] if found else "").splitlines():
        start = re.match(r"    (\*{0,2}\w+)(?: \([^)]*\))?: (.*)", line)
        if start:
            name = start[1]
            told[name] = start[2]
        elif line.strip() and told:
            told[name] += f" {line.strip()}"
    return told


def first_line(target: str) -> str:
    """The first line of the docstring of a class or function of ours."""
    module, _, name = target.rpartition(".")
    file = ROOT / "src" / f"{module.replace('.', '/')}.py"
    if not file.is_file():
        return ""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == name:
            return (ast.get_docstring(node) or "").split("\n")[0]
    return ""
