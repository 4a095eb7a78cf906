"""Reads what `conf/` says: the head of each file, its keys with their values, and the comment that explains each key.

PyYAML drops comments, but it knows where each key and value ends, so a comment is what follows on the line.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"
PREFIXES = {".": "", "encoder": "", "classifier": "tasks.NAME.classifier."}  # of keys that do not start with their group


@dataclass(frozen=True)
class Entry:
    """A key of a file.

    Args:
        key: its name with dots, from the root of the configuration.
        value: its value; None for a key that holds others.
        explanation: its comment.
        target: what the node that holds it is made of (`_target_`); of a key that holds others, what it is made of itself.
        kind: YAML's type of the value, such as `int`.
    """

    key: str
    value: str | None
    explanation: str
    target: str
    kind: str = ""


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
    defaults: list[tuple[str, str]]

    def __getitem__(self, key: str) -> Entry | None:
        """Return the entry of a key, if the file has it."""
        return next((entry for entry in self.entries if entry.key == key), None)


def prefix(group: str) -> str:
    """Return what the names of a group's keys start with."""
    return PREFIXES.get(group, f"{group.replace('/', '.')}.")


@cache
def read(path: Path) -> ConfFile:
    """Read a file of `conf/`."""
    text = path.read_text(encoding="utf-8")
    lines = [*text.splitlines(), ""]  # a value may end behind the last line
    head = [line.removeprefix("#").removeprefix(" ") for line in takewhile(lambda line: line.startswith("#"), lines)]
    start = "" if "@package _global_" in head else prefix(path.parent.relative_to(CONF).as_posix())
    root = yaml.compose(text)
    entries = list(_entries(root, start, lines, but="defaults")) if root else []
    defaults = [_choice(entry) for entry in (yaml.safe_load(text) or {}).get("defaults", [])]
    return ConfFile(path, [line for line in head if not line.startswith("@package")], entries, defaults)


def _choice(entry: Any) -> tuple[str, str]:
    ((name, value),) = entry.items() if isinstance(entry, dict) else [("", entry)]
    return name, flow(value)


def _entries(node: yaml.MappingNode, start: str, lines: Sequence[str], but: str) -> Iterator[Entry]:
    """Yield the keys below a node, but one. A key that holds others comes before them."""
    target = _target(node)
    for key, value in node.value:
        if key.value == but:
            continue
        name = f"{start}{key.value}"
        explanation = comment(lines, key, value)
        if isinstance(value, yaml.MappingNode) and value.value:
            yield Entry(name, None, explanation, _target(value))
            yield from _entries(value, f"{name}.", lines, but="_target_")
        else:
            yield Entry(name, source(value), explanation, target, value.tag.rpartition(":")[2])


def _target(node: yaml.MappingNode) -> str:
    return next((value.value for key, value in node.value if key.value == "_target_"), "")


def source(node: yaml.Node) -> str:
    """Return a value as one would write it on one line."""
    if isinstance(node, yaml.ScalarNode) and node.value:
        return node.value
    return flow(yaml.SafeLoader("").construct_document(node))


def flow(value: Any) -> str:
    """Return a value in YAML's flow style, without quotes around the texts of a list."""
    if isinstance(value, list) and all(isinstance(each, (str, int, float)) for each in value):
        return f"[{', '.join(map(str, value))}]"
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6)
    return '""' if value == "" else text.removesuffix("\n").removesuffix("\n...")


def comment(lines: Sequence[str], key: yaml.Node, value: yaml.Node) -> str:
    """Return the comment of a key: behind it and on the next lines in the same column, else in the lines above it."""
    in_block = isinstance(value, yaml.CollectionNode) and not value.flow_style
    mark = (key if in_block else value).end_mark
    line = lines[mark.line]
    if line[mark.column :].lstrip(": ").startswith("#"):
        column = line.index("#", mark.column)
        found = [line]
        for below in lines[mark.line + 1 :]:
            if below[:column].strip() or not below[column:].startswith("#"):
                break
            found.append(below)
        return " ".join(each[column:].lstrip("# ") for each in found)
    first = key.start_mark.line
    while first and lines[first - 1].startswith(" " * key.start_mark.column + "#"):
        first -= 1
    if first == 0:  # the head of the file
        return ""
    return " ".join(each.lstrip("# ") for each in lines[first : key.start_mark.line])
