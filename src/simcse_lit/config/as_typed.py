"""Translates a command line into the words that Hydra must read, so that texts, paths and lists keep their meaning.

Hydra parses each value with its own grammar, and OmegaConf then replaces `${...}` in it. `for_hydra` quotes the values of
keys that hold text, so that both leave them alone. The types of `schema.py` say which keys these are; for an argument of a
`_target_`, its annotation does. All other values are left to Hydra's grammar.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from glob import glob
from inspect import signature
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString, Sweep
from hydra.errors import HydraException
from hydra.utils import get_object

from simcse_lit.config import CONF_DIR, extension_dirs
from simcse_lit.config.schema import HOLDS, NUMBERS, SCHEMAS, SENTENCE, TEMPLATES, TEXTS

YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # fast, since --help reads every verb's file
MULTIRUN = {"-m", "--multirun", "hydra.mode=MULTIRUN"}
# Hydra's options whose value may be the next word.
VALUED = re.compile(r"--(cfg|package|config-(path|name|dir))|-(c|p|cp|cn|cd)")
SWEEP = re.compile(r"(choice|range|interval|glob|shuffle|sort|tag)\(.*\)")  # Hydra's sweeps, besides a,b
TASKS = {"dev": "tasks", "analysed": "tasks"}  # keys filled from a group with another name
UNREADABLE = object()
IN_QUOTES = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
PART = re.compile(rf"\s*(?:{IN_QUOTES}|\[[^\]]*\])\s*(?=,|$)|[^,]*")  # ends at a comma outside quotes and brackets


@dataclass(frozen=True)
class Kind:
    """The kind of value that a key holds.

    Args:
        listed: true if it may be a list.
        text: true if its values, or the values of its list, are text.
        bare: true if a single value stays a value instead of becoming a list of one.
        optional: true if `null` means none and not the text "null".
        whole: true if a value without brackets is one text, including its commas.
        sentence: true if quotes around a value are part of it.
        interpolates: true if OmegaConf replaces `${...}` in a value.
    """

    listed: bool = False
    text: bool = True
    bare: bool = True
    optional: bool = False
    whole: bool = False
    sentence: bool = False
    interpolates: bool = False


def escaped(text: str) -> str:
    r"""Escape a text so that OmegaConf replaces nothing in it: `${` becomes `\${`."""
    return re.sub(r"(\\*)\$\{", lambda found: rf"{found[1] * 2}\${{", text)


def literal(node: Any) -> Any:
    """Return a configuration as plain containers for `hydra.utils.instantiate`, with every text `escaped`."""
    if isinstance(node, Mapping):
        return {key: literal(value) for key, value in node.items()}
    if isinstance(node, list):
        return [literal(value) for value in node]
    return escaped(node) if isinstance(node, str) else node


def quoted(text: str) -> str:
    """Quote any text for Hydra's command line."""
    return QuotedString(text=text, quote=Quote.single).with_quotes()


def unquoted(text: str) -> str:
    """Remove the quotes that Hydra's grammar asks for around a text."""
    return str(_read_by_hydra(text)) if re.fullmatch(IN_QUOTES, text) else text


def key_of(word: str) -> str:
    """Return the key, or the option, of a word of a command line."""
    return word.partition("=")[0].lstrip("+~")


def for_hydra(verb: str, arguments: Sequence[str], earlier: Sequence[str] = ()) -> list[str]:
    """Translate a command line as typed into one that means the same to Hydra.

    In a multirun a comma separates the values of a sweep; otherwise it separates the values of a key that holds a list. A
    comma inside quotes, or inside a path that exists, separates nothing.

    Args:
        verb: verb whose configuration is composed.
        arguments: words as typed.
        earlier: translated words of a run that is resumed; typed words override them.

    Returns:
        Options first, then overrides.

    Example:
        `for_hydra("search", ["query=a man, a guitar"])` gives `["query='a man, a guitar'"]`.
    """
    swept = bool(MULTIRUN & set(arguments))
    known, grouped = {**kinds(SCHEMAS[verb]), **_of_hydra()}, groups(verb)
    options = [word for word in earlier if word.startswith("-")]
    words = [word for word in earlier if not word.startswith("-")]
    for place, argument in enumerate(arguments):
        key, equals, value = argument.partition("=")
        if argument.startswith("-") or (place and VALUED.fullmatch(arguments[place - 1])):
            options.append(argument)
        elif not equals or key.startswith("~"):
            words.append(argument)
        else:
            name = key.lstrip("+")
            if name in ("hydra.run.dir", "hydra.sweep.dir"):
                value = os.path.expanduser(unquoted(value))  # noqa: PTH111  # Path raises for ~NAME of no user
            if key == f"+{name}" and (name in known or name in grouped):
                key = name  # Hydra refuses to add a key that exists
            if kind := known.get(name):
                value = _value(value, kind, swept and not name.startswith("hydra."))  # Hydra's own keys are never swept
            elif name.partition("@")[0] in grouped:
                value = ",".join(map(_option, parts(value))) if swept and not SWEEP.fullmatch(value) else _option(value)
            elif kind := _argument(verb, name, value, [*earlier, *arguments]):
                value = _value(value, kind, swept)
            else:
                value = _untyped(value, swept)
            words.append(f"{key}={value}")
    return [*options, *words]  # Hydra's argparse wants all options first


def kinds(schema: type, prefix: str = "") -> dict[str, Kind]:
    """Map the dotted keys of a schema that hold text or lists to what each holds."""
    found: dict[str, Kind] = {}
    types = get_type_hints(schema)
    for field in fields(schema):
        key, holds = f"{prefix}{field.name}", field.metadata.get(HOLDS)
        optional = NoneType in get_args(types[field.name])
        (held, *_) = (
            [each for each in get_args(types[field.name]) if each is not NoneType] if optional else [types[field.name]]
        )
        if is_dataclass(held):
            found |= kinds(held, f"{key}.")  # type: ignore[arg-type]  # a class, not an instance
        elif held is str:
            found[key] = Kind(optional=optional and holds != SENTENCE, sentence=holds == SENTENCE)
        elif held == list[str]:
            found[key] = Kind(listed=True, bare=False, optional=optional)
        elif holds == TEXTS:
            found[key] = Kind(listed=True, optional=True)
        elif holds == TEMPLATES:
            found[key] = Kind(listed=True, optional=True, whole=True)
        elif holds == NUMBERS or held == dict[str, Any]:  # such a group may have several options
            found[key] = Kind(listed=True, text=False)
    return found


@cache
def groups(verb: str) -> set[str]:
    """Return the groups in the defaults list of `conf/VERB.yaml`."""
    entries = yaml.load((CONF_DIR / f"{verb}.yaml").read_text(encoding="utf-8"), Loader=YAML)["defaults"]
    keys = [str(next(iter(entry))) for entry in entries if not isinstance(entry, str)]
    return {key.removeprefix("optional ").removeprefix("override ").partition("@")[0].partition("/")[0] for key in keys}


def _of_hydra() -> dict[str, Kind]:
    """Return Hydra's keys that hold text. Names of run folders may interpolate: `hydra.run.dir=runs/${seed}`."""
    keys = ("run.dir", "sweep.dir", "sweep.subdir", "job.name", "output_subdir")
    texts = {f"hydra.{key}": Kind(optional=True, interpolates=True) for key in keys}
    return {**texts, "hydra.searchpath": Kind(listed=True, bare=False, interpolates=True)}


def _value(value: str, kind: Kind, swept: bool) -> str:
    if not swept:
        return _one(value, kind)
    if SWEEP.fullmatch(value) or not kind.text:
        return value
    return ",".join(_one(part, kind) for part in parts(value))


def _one(value: str, kind: Kind) -> str:
    if value == "null" and kind.optional:
        return value
    bracketed = value.startswith("[") and value.endswith("]")
    if not kind.listed or (kind.whole and not bracketed):
        return _text(value, kind)
    values = parts(value[1:-1] if bracketed else value) if value != "[]" else []
    if not kind.text:
        return f"[{value}]" if len(values) > 1 and value[0] not in "[{\"'" else value
    if not bracketed and kind.bare and len(values) == 1:
        return _text(value, kind)
    return f"[{','.join(_text(each, kind) for each in values)}]"


def _text(value: str, kind: Kind) -> str:
    text = value if kind.sentence else unquoted(value)
    meant = text if kind.interpolates else escaped(text)
    return text if meant == text == _read_by_hydra(text) else quoted(meant)


def parts(value: str) -> list[str]:
    """Split at commas, except inside quotes, brackets, or a path that exists.

    A path also counts as existing if the comma is in the name of its folder and that folder exists.
    """
    found, start = list[str](), 0
    while start <= len(value):
        part = PART.match(value, start)
        assert part is not None  # it also matches the empty string
        found.append(part[0])
        start = part.end() + 1
    joined = list[str]()
    while found:
        most = next((many for many in range(len(found), 1, -1) if _is_there(",".join(found[:many]))), 1)
        joined.append(",".join(found[:most]).strip())
        found = found[most:]
    return joined


def _is_there(path: str) -> bool:
    folder = path.rpartition("/")[0]
    places = [path, folder] if "," in folder else [path]
    try:
        return any(Path(place.strip()).expanduser().exists() or _matches(place.strip()) for place in places)
    except (OSError, ValueError, RuntimeError):  # name too long, null byte, ~NAME of no user
        return False


def _matches(pattern: str) -> bool:
    return any(character in pattern for character in "*?[") and bool(glob(pattern))  # noqa: PTH207  # Path.glob takes no absolute pattern


def _argument(verb: str, key: str, value: str, words: Sequence[str]) -> Kind | None:
    """Return what `logger.NAME.ARGUMENT` and the like hold, by the annotation of the argument.

    This imports the `_target_`, so only values that Hydra reads as a number or a boolean are looked up.

    Returns:
        None if the kind is not known or makes no difference.
    """
    entry, _, argument = key.rpartition(".")
    group, _, name = entry.partition(".")
    free = {field.name for field in fields(SCHEMAS[verb]) if field.type == dict[str, Any]}
    typed = parts(value.removeprefix("[").removesuffix("]"))
    if group not in free or not name or not any(isinstance(_read_by_hydra(part), (int, float)) for part in typed):
        return None
    try:
        annotation = signature(get_object(_target(group, name, words))).parameters[argument].annotation
    except Exception:  # reported when the class is built
        return None
    union = get_origin(annotation) in (Union, UnionType)
    held = set(get_args(annotation) if union else (annotation,))
    lists = {each for each in held if get_origin(each) in (list, tuple, Sequence) and str in get_args(each)}
    if held - lists - {str, Path, NoneType}:
        return None
    return Kind(listed=bool(lists), bare=bool(held & {str, Path}), optional=NoneType in held, interpolates=True)


def _target(group: str, name: str, words: Sequence[str]) -> str:
    """Return the `_target_` of an entry, from the command line or else from a configuration file.

    Raises:
        KeyError: neither has it.
    """
    found = {key_of(word): unquoted(word.partition("=")[2]) for word in words}
    if target := found.get(f"{group}.{name}._target_"):
        return target
    for folder in (*_config_dirs(words), *extension_dirs(), CONF_DIR):
        for file in sorted((folder / TASKS.get(group, group)).glob("*.yaml")):
            entry = (yaml.load(file.read_text(encoding="utf-8"), Loader=YAML) or {}).get(name)
            if isinstance(entry, dict):
                return str(entry["_target_"])
    raise KeyError(name)


def _config_dirs(words: Sequence[str]) -> Iterator[Path]:
    for place, word in enumerate(words):
        option, equals, value = word.partition("=")
        if option in ("--config-dir", "-cd"):
            yield Path(value if equals else words[place + 1])


def _option(value: str) -> str:
    """Translate the option of a group: a name, several names in brackets, or null."""
    read = _read_by_hydra(value)
    return value if read is None or isinstance(read, (str, list, Sweep)) else quoted(value)


def _untyped(value: str, swept: bool) -> str:
    """Translate the value of a key of unknown type: unchanged if Hydra can read it, otherwise quoted as text."""
    if _read_by_hydra(value) is not UNREADABLE:
        return value
    return ",".join(map(quoted, parts(value))) if swept else quoted(value)


def _read_by_hydra(value: str) -> Any:
    try:
        return OverridesParser.create().parse_override(f"key={value}").value()
    except HydraException:
        return UNREADABLE
