"""What a newcomer meets first: the README, the table of extras, the pictures, the changelog, and what asks for a report."""

import re
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from simcse_lit import __version__
from tests.warm_start import ROOT

INSTALL = ROOT / "docs" / "start" / "install.md"


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return import_module("install_size")


def test_the_table_of_extras_has_those_of_pyproject(sizes: ModuleType) -> None:
    extras = [extra for extra in sizes.project() if extra]
    table = INSTALL.read_text(encoding="utf-8").split(sizes.START)[1].split(sizes.END)[0]
    assert re.findall(r"^\| `([\w-]+)`", table, re.MULTILINE) == extras
    assert set(sizes.PURPOSE) == {"", *extras}


def test_what_a_requirement_brings_is_followed_through_extras_and_markers(sizes: ModuleType, tmp_path: Path) -> None:
    for name, requires in {
        "one": ["two[more]>=1", "six; python_version < '3'"],
        "two": ["three; extra == 'more'", "four; extra == 'less'"],
        "three": ["one"],
    }.items():
        folder = tmp_path / f"{name}-1.0.dist-info"
        folder.mkdir()
        lines = [f"Name: {name}", "Version: 1.0", *(f"Requires-Dist: {text}" for text in requires)]
        (folder / "METADATA").write_text("Metadata-Version: 2.4\n" + "\n".join(lines) + "\n")
        (tmp_path / f"{name}.py").write_bytes(b"#" * 500_000)
        (folder / "RECORD").write_text(f"{name}.py,,\n{name}.pyc,,\n")
    sys.path.insert(0, str(tmp_path))
    try:
        assert sizes.closure(["one"]) == {"one", "two", "three"}
        assert sizes.megabytes(["one", "three"]) == pytest.approx(1.0)
    finally:
        sys.path.remove(str(tmp_path))


def test_the_readme_is_a_screen_or_two() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 90


@pytest.mark.parametrize("picture", sorted((ROOT / "docs" / "start").glob("*.png")), ids=lambda path: path.name)
def test_pictures_are_small(picture: Path) -> None:
    assert picture.stat().st_size < 150_000


def test_versions_of_the_readme_are_those_of_pyproject() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert "Python 3.10 to 3.13" in readme and 'requires-python = ">=3.10,<3.14"' in pyproject
    assert "PyTorch Lightning 2.6" in readme and '"pytorch-lightning>=2.6' in pyproject
    assert "Hydra 1.3" in readme and '"hydra-core>=1.3.2,<1.4"' in pyproject
    assert "transformers 5" in readme and '"transformers>=5.0,<6"' in pyproject
    assert "MIT license" in readme and 'license = "MIT"' in pyproject


def test_the_citation_names_this_version_and_the_paper() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (cited["cff-version"], str(cited["version"]), cited["license"]) == ("1.2.0", __version__, "MIT")
    (paper,) = cited["references"]
    assert paper["doi"] == "10.18653/v1/2021.emnlp-main.552"


def test_the_changelog_has_the_form_of_keep_a_changelog() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert [line.split("]")[0][4:] for line in re.findall(r"^## .*", text, re.MULTILINE)] == ["Unreleased", __version__]
    kinds = set(re.findall(r"^### (.*)", text, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


@pytest.mark.parametrize("name", ["ISSUE_TEMPLATE/bug.yml", "ISSUE_TEMPLATE/feature.yml", "PULL_REQUEST_TEMPLATE.md"])
def test_templates_ask_for_version_command_and_environment(name: str) -> None:
    text = (ROOT / ".github" / name).read_text(encoding="utf-8")
    assert "simcse-lit --version" in text and "environment.json" in text and "command" in text.lower()
    if name.endswith(".yml"):
        form = yaml.safe_load(text)
        assert {"name", "description", "body"} <= set(form)
        identifiers = [field["id"] for field in form["body"]]
        assert {"version", "command", "environment"} <= set(identifiers)
        assert len(identifiers) == len(set(identifiers))
