"""The groups of `conf/`: the prose of groups.yaml, their files and keys, and the commands that choose from them."""

from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import yaml
from conf_files import CONF, ConfFile, Entry, prefix, read

from simcse_lit.cli.verbs import COMPOSED

FOLDER = Path(__file__).parent
PROSE = yaml.safe_load((FOLDER / "groups.yaml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Group:
    """A group of `conf/`. groups.yaml explains the arguments.

    Args:
        name: its name.
        page: the name of its page.
    """

    name: str
    page: str
    about: str
    how: str = "Choose one with `{name}=OPTION`."
    shared: str = "default"
    preset: bool = False

    @property
    def link(self) -> str:
        """A link to its section, from a page of docs/reference/."""
        return f"[`{self.name}`](configuration/{self.page}.md#{self.name.replace('/', '')})"

    @cached_property
    def base(self) -> ConfFile | None:
        """The file with the values that its options share."""
        path = CONF / self.name / f"{self.shared}.yaml"
        return read(path) if path.is_file() else None

    @cached_property
    def options(self) -> dict[str, ConfFile]:
        """The files that can be chosen, by name, those in folders below it last."""
        folder = CONF / self.name
        paths = [path for path in folder.rglob("*.yaml") if path.stem != "default"]
        paths.sort(key=lambda path: (len(path.parts), path.stem.lower()))
        return {path.relative_to(folder).with_suffix("").as_posix(): read(path) for path in paths}

    @cached_property
    def entries(self) -> list[Entry]:
        """Its keys: those that its options share, then those of one option. Tasks have the arguments of their functions."""
        files = [self.base] if self.base else []
        found: dict[str, Entry] = {}
        for file in [*files, *self.options.values()]:
            for entry in file.entries:
                if self.name != "tasks" and self.holds(entry.key) and self.leaf(entry.key) not in ("name", "kind"):
                    found.setdefault(entry.key, entry)
        return list(found.values())

    def holds(self, key: str) -> bool:
        """Return whether a key belongs to the group; its files may set keys of another."""
        return key.startswith(prefix(self.name))

    def leaf(self, key: str) -> str:
        """Return a key without the name of the group."""
        return key.removeprefix(prefix(self.name))

    @cached_property
    def chosen(self) -> dict[str, str]:
        """The commands that choose from it, and the choice of each."""
        return {verb: choices[self.name] for verb in COMPOSED if self.name in (choices := chosen(verb))}


GROUPS = {
    name: Group(name, page, **said) for page, prose in PROSE["pages"].items() for name, said in prose["groups"].items()
}


@cache
def chosen(verb: str) -> dict[str, str]:
    """Return the groups that a command chooses from, and the choice: those of its file, then those beside them."""
    found: dict[str, str] = {}
    for key, choice in read(CONF / f"{verb}.yaml").defaults:
        group = key.partition("@")[0]
        if group in GROUPS:
            found.setdefault(group, choice)
    return found | dict.fromkeys(PROSE["beside"].get(verb, []), "null")
