"""The documents: every command composes, every link leads somewhere, every make target and path exists."""

import configparser
import re
import shlex
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from simcse_lit.config import CONF_DIR, registered
from simcse_lit.config.as_typed import for_hydra
from simcse_lit.config.checks.encode import validate_encode, validate_serve, validate_similarity
from simcse_lit.config.checks.evaluate import validate_evaluation
from simcse_lit.config.checks.export import validate_export, validate_import
from simcse_lit.config.checks.index import validate_index, validate_search
from simcse_lit.config.checks.train import validate
from tests.conftest import ROOT
from tests.docs.documents import DOCUMENTS, blocks, shown_files

MY_LAB = ROOT / "examples" / "my_lab"

USES: dict[str, tuple[Callable[[DictConfig], object], list[str]]] = {  # with what a bare mention leaves out
    "encode": (validate_encode, ["checkpoint=none", "input=in.txt", "output=out.npy"]),
    "similarity": (validate_similarity, ["checkpoint=none", "first=one", "second=two"]),
    "serve": (validate_serve, ["checkpoint=none"]),
    "index": (validate_index, ["folder=none"]),
    "search": (validate_search, ["folder=none"]),
    "export": (validate_export, ["checkpoint=none", "output=none"]),
    "import_checkpoint": (validate_import, ["checkpoint=none", "output=none"]),
}
MISTAKES = ("loss.temprature",)  # shown on purpose


def commands() -> list[tuple[str, str]]:
    """(command, its arguments) of every `python -m simcse_lit.COMMAND ARGUMENTS` and `simcse-lit COMMAND ARGUMENTS`."""
    found: set[tuple[str, str]] = set()
    texts = [path.read_text(encoding="utf-8") for path in DOCUMENTS]
    texts += [path.read_text(encoding="utf-8") for path in (ROOT / "conf").rglob("*.yaml")]
    for text in (re.sub(r" \\\n *", " ", each) for each in texts):  # a command may take several lines
        spelled = r"(?:python -m simcse_lit\.|python -m simcse_lit |simcse-lit )"
        for command, arguments in re.findall(rf"{spelled}(train|evaluate|{'|'.join(USES)})\b([^\n`#&]*)", text):
            preset = re.search(r"\+(sweep|comparison)=(?!optuna)", arguments)  # test_experiments.py has every job of these
            if not preset and not any(mistake in arguments for mistake in MISTAKES):
                # What follows two spaces explains the command.
                found.add((command, re.split(r"\s{2,}", arguments)[0].strip()))
    return sorted(found)


def first_job(words: list[str]) -> list[str]:
    """The first value of every sweep, or the lower end of an interval."""
    job = []
    for word, override in zip(words, OverridesParser.create().parse_overrides(words), strict=True):
        if override.is_interval_sweep():
            word = f"{override.get_key_element()}={override.value().start}"  # type: ignore[union-attr]
        elif override.is_sweep_override():
            word = f"{override.get_key_element()}={next(override.sweep_string_iterator())}"
        job.append(word)
    return job


@pytest.fixture(scope="module")
def my_conf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder `my_conf`, with every file of it that a document shows."""
    folder = tmp_path_factory.mktemp("mine")
    for document in DOCUMENTS:
        for name, text in shown_files(document.read_text(encoding="utf-8"), "my_conf").items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
    return folder / "my_conf"


def test_the_files_that_extending_shows_are_those_of_the_example() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs" / "extending").glob("*.md")))
    shown = shown_files(text, "my_lab/conf")
    example = {str(path.relative_to(MY_LAB)) for path in (MY_LAB / "my_lab" / "conf").rglob("*.yaml")}
    assert shown.keys() == example
    for name, lines in shown.items():
        assert yaml.safe_load(lines) == yaml.safe_load((MY_LAB / name).read_text(encoding="utf-8")), name
    package = entry_points_in((MY_LAB / "pyproject.toml").read_text(encoding="utf-8"))
    taught = entry_points_in("\n".join(block for _, block in blocks(text) if "[project.entry-points." in block))
    assert {group: {name: taught[group].get(name) for name in package[group]} for group in package} == package


def entry_points_in(pyproject: str) -> dict[str, dict[str, str]]:
    """The entry points of a package, by group and name."""
    read = configparser.ConfigParser(comment_prefixes="#", inline_comment_prefixes="#", delimiters="=", strict=False)
    read.read_string(pyproject)
    start = "project.entry-points."
    groups = [group for group in read.sections() if group.startswith(start)]
    return {
        group.removeprefix(start).strip('"'): {name.strip('"'): value.strip('"') for name, value in read[group].items()}
        for group in groups
    }


def of_my_lab(words: list[str]) -> bool:
    """Whether a command names an option that only the example brings."""
    chosen = {name for word in words for name in re.split(r"[=,\[\]]", word)}
    return not chosen.isdisjoint(path.stem for path in (MY_LAB / "my_lab" / "conf").rglob("*.yaml"))


def entry_points_of_my_lab(group: str) -> dict[str, EntryPoint]:
    """As if the example were installed."""
    package = entry_points_in((MY_LAB / "pyproject.toml").read_text(encoding="utf-8"))
    return {name: EntryPoint(name, value, group) for name, value in package.get(group, {}).items()}


def test_there_are_commands_to_check() -> None:
    assert {"train", "evaluate", *USES} == {command for command, _ in commands()}
    assert len(commands()) > 15


@pytest.mark.parametrize(("command", "arguments"), commands())
def test_command_composes_and_validates(
    command: str, arguments: str, monkeypatch: pytest.MonkeyPatch, my_conf: Path
) -> None:
    monkeypatch.setenv("SIMCSE_DATA", "/data")
    monkeypatch.setattr("simcse_lit.config.checks.index.is_index", lambda folder: True)  # a mention need not name an encoder
    options = ("-m", "--help", "--cfg", "job", "--resolve", "--config-dir", "my_conf")
    example = of_my_lab(shlex.split(arguments))
    if example:
        monkeypatch.setattr(registered, "entries", entry_points_of_my_lab)
    folder = my_conf if "--config-dir" in arguments else MY_LAB / "my_lab" / "conf" if example else None
    own = [f"hydra.searchpath=[file://{folder}]"] if folder else []
    words = [word for word in shlex.split(arguments) if word not in options] + own
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        if command == "train":
            swept = ["-m"] if "-m" in arguments.split() else []
            meant = [word for word in for_hydra("train", [*swept, *words]) if word != "-m"]
            validate(compose("train", [*first_job(meant), "run_dir=unused"]))
        elif command in USES:
            check, needed = USES[command]
            check(compose(command, [*needed, *for_hydra(command, words)]))
        else:
            overrides = for_hydra("evaluate", [word for word in words if "*" not in word])  # a pattern needs folders
            validate_evaluation(compose("evaluate", ["checkpoint=none", *overrides, "run_dir=unused"]))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_targets_and_paths_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert link.startswith("https://") or (document.parent / link).exists(), link
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?:`|^ {4}|^)make ([a-z-]+)", text, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for path in re.findall(r"`((?:benchmarks|tests|docs|conf|src)/[\w./-]+\.\w+)`", text):
        assert (ROOT / path).exists(), path
