"""The reference: its generated pages are what their sources say, and no key is left without an explanation."""

import sys
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

import pytest
import yaml

from simcse_lit.cli.verbs import COMPOSED, VERBS
from simcse_lit.config.schema import SCHEMAS
from tests.conftest import ROOT

REFERENCE = ROOT / "docs" / "reference"
PAGES = sorted((REFERENCE / "configuration").glob("*.md"))


@pytest.fixture
def generate(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(REFERENCE))
    return import_module("generate")


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(REFERENCE))
    return import_module("keys")


@pytest.fixture
def conf_files(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(REFERENCE))
    return import_module("conf_files")


def test_the_pages_are_what_their_sources_say(generate: ModuleType) -> None:
    different = [
        str(path.relative_to(ROOT))
        for path, text in generate.pages().items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]
    assert not different, f"{different} differ from their sources: run make reference"


def test_check_fails_for_a_page_that_differs(
    generate: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["generate.py", "--check"])
    made = generate.pages()
    monkeypatch.setattr(generate, "pages", lambda: made)
    assert generate.main() == 0
    monkeypatch.setattr(generate, "pages", lambda: {**made, REFERENCE / "commands.md": "# Commands\n"})
    assert generate.main() == 1
    assert "Run: make reference" in capsys.readouterr().err


def test_every_key_is_explained(keys: ModuleType) -> None:
    assert not keys.unexplained(), "write a comment in conf/ beside each of these keys, then run make reference"


def test_every_key_of_the_schema_is_on_a_page() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in [*PAGES, REFERENCE / "commands.md"])
    names = {"name", "kind"}  # of a group: the name of the option
    filled = {"run_dir", "tasks", "dev", "analysed", "analyses", "callbacks", "logger", "pooler", "projection", "format"}
    for verb, schema in SCHEMAS.items():
        for key, kind in get_type_hints(schema).items():
            below = (
                [f"{key}.{each.name}" for each in fields(kind) if each.name not in names] if is_dataclass(kind) else [key]
            )
            missing = [each for each in below if each not in filled and f"| `{each}` |" not in text]
            assert not missing, (verb, missing)


def test_every_file_of_conf_is_on_a_page() -> None:
    links = {
        line.split("](")[1].split(")")[0]
        for page in PAGES
        for line in page.read_text().splitlines()
        if "](../../../conf" in line
    }
    linked = {(REFERENCE / "configuration" / link).resolve() for link in links}
    conf = ROOT / "conf"
    own = {path for path in conf.rglob("*.yaml") if path.parent != conf and path.stem != "default"}
    hidden = {
        path for path in own if path.parts[len(conf.parts) :][:2] in (("hydra", "job_logging"), ("hydra", "hydra_logging"))
    }
    assert own - linked - hidden == {conf / "hydra" / "tool.yaml", conf / "classifier" / "senteval.yaml"}


def test_every_verb_has_a_section_with_its_examples_and_groups() -> None:
    sections = {part.split("\n")[0]: part for part in (REFERENCE / "commands.md").read_text(encoding="utf-8").split("\n## ")}
    for verb in VERBS:
        assert f"simcse-lit {verb} " in sections[verb], verb
        if verb in COMPOSED:
            assert "Groups:" in sections[verb], verb


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("key: 1  # behind it", {"key": "behind it"}),
        ("key: 'a # b'  # behind", {"key": "behind"}),
        ("key: [1, 2]   # two\n              # lines\nother: 2", {"key": "two lines", "other": ""}),
        ("first: 1\n# above it,\n# two lines\nkey: 2", {"first": "", "key": "above it, two lines"}),
        ("first: 1  # of the first\n# of the second\nkey: 2", {"first": "of the first", "key": "of the second"}),
        ("node:  # of the node\n  key: 1  # of the key", {"node": "of the node", "node.key": "of the key"}),
        ("# head\n\nkey: null  # of the key", {"key": "of the key"}),
        ("# head\nkey: 1", {"key": ""}),
        ("key:\n  - 1\n  - 2", {"key": ""}),
        ("key: # of a list\n  - 1", {"key": "of a list"}),
    ],
)
def test_a_comment_belongs_to_the_key_beside_or_below_it(
    conf_files: ModuleType, text: str, said: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conf_files, "CONF", tmp_path)
    path = tmp_path / "file.yaml"
    path.write_text(text)
    assert {entry.key: entry.explanation for entry in conf_files.read(path).entries} == said


def test_a_value_on_a_page_is_that_of_its_file(conf_files: ModuleType) -> None:
    for path in sorted((ROOT / "conf").rglob("*.yaml")):
        loaded: Any = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        for entry in conf_files.read(path).entries:
            if entry.value is None:
                continue
            group = path.parent.relative_to(ROOT / "conf").as_posix().replace("/", ".")
            key = entry.key.removeprefix("tasks.NAME.classifier.").removeprefix(f"{group}." if group != "." else "")
            if "@package _global_" in path.read_text(encoding="utf-8"):
                key = entry.key
            value = loaded
            for part in parts_of(value, key):
                value = value[part]
            if isinstance(value, list):
                assert all(str(each) in entry.value for each in value if not isinstance(each, dict)), (path, entry.key)
            else:
                assert entry.value == str(value) or yaml.safe_load(entry.value) == value, (path, entry.key)


def parts_of(node: Any, key: str) -> list[str]:
    """The names along a key, some of which hold dots."""
    if not key:
        return []
    for name in node:
        if key == name or key.startswith(f"{name}."):
            return [name, *parts_of(node[name], key[len(name) + 1 :])]
    raise KeyError(key)
