"""What the words of a command line mean: texts, paths and lists of them are taken as they stand.

Hydra reads every value by its own grammar, and OmegaConf then replaces `${...}` in it. The types of `schema.py` say which
keys hold text, and the annotations of what a `_target_` names say it of its arguments; `for_hydra` quotes their values, so
that both leave them alone. Other values are read as Hydra reads them.
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

YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # --help reads the file of every verb
MULTIRUN = {"-m", "--multirun", "hydra.mode=MULTIRUN"}
# Hydra's options that take a value as the next word.
VALUED = re.compile(r"--(cfg|package|config-(path|name|dir))|-(c|p|cp|cn|cd)")
SWEEP = re.compile(r"(choice|range|interval|glob|shuffle|sort|tag)\(.*\)")  # what Hydra sweeps over, beside a,b
TASKS = {"dev": "tasks", "analysed": "tasks"}  # keys that are filled from the group of another name
UNREADABLE = object()
IN_QUOTES = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
PART = re.compile(rf"\s*(?:{IN_QUOTES}|\[[^\]]*\])\s*(?=,|$)|[^,]*")  # of a list: up to a comma outside quotes and brackets


@dataclass(frozen=True)
class Kind:
    """What a key holds.

    Args:
        listed: it may be a list.
        text: its values, or those of the list, are text.
        bare: one value is no list of one.
        optional: `null` is no text.
        whole: a value without brackets is one text, whatever commas it holds.
        sentence: quotes around a value are part of it.
        interpolates: `${...}` in a value is OmegaConf's.
    """

    listed: bool = False
    text: bool = True
    bare: bool = True
    optional: bool = False
    whole: bool = False
    sentence: bool = False
    interpolates: bool = False


def escaped(text: str) -> str:
    r"""Text in which OmegaConf finds nothing to replace: `${` becomes `\${`."""
    return re.sub(r"(\\*)\$\{", lambda found: rf"{found[1] * 2}\${{", text)


def literal(node: Any) -> Any:
    """A configuration as plain containers, for `hydra.utils.instantiate`, with every text `escaped`."""
    if isinstance(node, Mapping):
        return {key: literal(value) for key, value in node.items()}
    if isinstance(node, list):
        return [literal(value) for value in node]
    return escaped(node) if isinstance(node, str) else node


def quoted(text: str) -> str:
    """Text as Hydra's command line takes it, whatever it holds."""
    return QuotedString(text=text, quote=Quote.single).with_quotes()


def unquoted(text: str) -> str:
    """Text without the quotes that Hydra teaches to put around it."""
    return str(_read_by_hydra(text)) if re.fullmatch(IN_QUOTES, text) else text


def key_of(word: str) -> str:
    """The key that a word of a command line gives a value to, or the option."""
    return word.partition("=")[0].lstrip("+~")


def for_hydra(verb: str, arguments: Sequence[str], earlier: Sequence[str] = ()) -> list[str]:
    """The command line that means to Hydra what a user typed.

    In a multirun a comma separates values that are swept; elsewhere it separates the values of a key that holds a list. It
    separates nothing inside quotes, nor inside a path that is there.

    Args:
        verb: whose configuration is composed.
        arguments: as typed.
        earlier: words for Hydra already, over which those typed win: of a run that is continued.
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
                value = os.path.expanduser(unquoted(value))  # noqa: PTH111  # Path would raise for nobody's name
            if key == f"+{name}" and (name in known or name in grouped):
                key = name  # it is there already, and Hydra would refuse to add it
            if kind := known.get(name):
                value = _value(value, kind, swept and not name.startswith("hydra."))  # Hydra's own keys are never swept
            elif name.partition("@")[0] in grouped:
                value = ",".join(map(_option, parts(value))) if swept and not SWEEP.fullmatch(value) else _option(value)
            elif kind := _argument(verb, name, value, [*earlier, *arguments]):
                value = _value(value, kind, swept)
            else:
                value = _untyped(value, swept)
            words.append(f"{key}={value}")
    return [*options, *words]  # argparse, which Hydra reads them with, takes no words behind options that follow words


def kinds(schema: type, prefix: str = "") -> dict[str, Kind]:
    """The keys of a schema that hold text or lists, dotted, and what each holds."""
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
        elif holds == NUMBERS or held == dict[str, Any]:  # a group of such a key may have several options
            found[key] = Kind(listed=True, text=False)
    return found


@cache
def groups(verb: str) -> set[str]:
    """The groups in the defaults list of `conf/VERB.yaml`."""
    entries = yaml.load((CONF_DIR / f"{verb}.yaml").read_text(encoding="utf-8"), Loader=YAML)["defaults"]
    keys = [str(next(iter(entry))) for entry in entries if not isinstance(entry, str)]
    return {key.removeprefix("optional ").removeprefix("override ").partition("@")[0].partition("/")[0] for key in keys}


def _of_hydra() -> dict[str, Kind]:
    """Hydra's own keys that hold text; a run folder's name is made from others: `hydra.run.dir=runs/${seed}`."""
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
    """Split at commas, but not inside quotes or brackets, nor inside a path that is there.

    A path is there too if the comma is in the name of its folder and that folder is there.
    """
    found, start = list[str](), 0
    while start <= len(value):
        part = PART.match(value, start)
        assert part is not None  # it matches nothing, too
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
    except (OSError, ValueError, RuntimeError):  # too long for a name, a zero byte, ~ and nobody's name
        return False


def _matches(pattern: str) -> bool:
    return any(character in pattern for character in "*?[") and bool(glob(pattern))  # noqa: PTH207  # takes no absolute one


def _argument(verb: str, key: str, value: str, words: Sequence[str]) -> Kind | None:
    """What `logger.NAME.ARGUMENT` and its like hold, by the annotation of that argument of what `_target_` names. None: that
    is not known, or the value is the same text either way.

    What `_target_` names is imported, so this is looked up only for a value that Hydra takes for a number or a truth value.
    """
    entry, _, argument = key.rpartition(".")
    group, _, name = entry.partition(".")
    free = {field.name for field in fields(SCHEMAS[verb]) if field.type == dict[str, Any]}
    typed = parts(value.removeprefix("[").removesuffix("]"))
    if group not in free or not name or not any(isinstance(_read_by_hydra(part), (int, float)) for part in typed):
        return None
    try:
        annotation = signature(get_object(_target(group, name, words))).parameters[argument].annotation
    except Exception:  # whatever importing it raises, and what is missing, is said when it is used
        return None
    union = get_origin(annotation) in (Union, UnionType)
    held = set(get_args(annotation) if union else (annotation,))
    lists = {each for each in held if get_origin(each) in (list, tuple, Sequence) and str in get_args(each)}
    if held - lists - {str, Path, NoneType}:
        return None
    return Kind(listed=bool(lists), bare=bool(held & {str, Path}), optional=NoneType in held, interpolates=True)


def _target(group: str, name: str, words: Sequence[str]) -> str:
    """The `_target_` of an entry: as typed, or as a file of configuration says.

    Raises:
        KeyError: nobody says it.
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
    """The option of a group: a name, or several in brackets, or null."""
    read = _read_by_hydra(value)
    return value if read is None or isinstance(read, (str, list, Sweep)) else quoted(value)


def _untyped(value: str, swept: bool) -> str:
    """The value of a key of no known type: as it stands if Hydra can read it, else as text."""
    if _read_by_hydra(value) is not UNREADABLE:
        return value
    return ",".join(map(quoted, parts(value))) if swept else quoted(value)


def _read_by_hydra(value: str) -> Any:
    try:
        return OverridesParser.create().parse_override(f"key={value}").value()
    except HydraException:
        return UNREADABLE
