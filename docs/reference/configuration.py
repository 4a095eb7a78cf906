"""The pages of the groups of `conf/`, and the overview of them."""

import re
from pathlib import Path

from conf_files import ConfFile
from docstrings import arguments
from groups import FOLDER, GROUPS, PROSE, Group
from keys import in_words, keys_of_group
from markup import MADE, ROOT, code, fill, link, markdown, relative, table

from simcse_lit.cli.verbs import COMPOSED

START = MADE.format(sources="`conf/` and src/simcse_lit/config/schema.py")
TASKS = """\
A task is made by a function of `simcse_lit.evaluation`, which `tasks.NAME._target_` names. Its
other keys are the arguments of that function: `tasks.NAME.pairs`."""
ONE_CHOICE = re.compile(r"simcse-lit \w+( -m)? \+?\w+=[\w-]+")  # the option's name says it
OVERVIEW = """\
# Configuration keys

Every command except `report` and `dashboard` reads its configuration from `conf/`. A word
`key=value` on the command line changes a key, and `group=option` chooses a file of `conf/group/`.
[Configure a run](../how-to/configure.md) explains the syntax; this part lists the keys.

The keys of a command that belong to no group are on the page of the commands: {verbs}.

## Groups

{groups}
## The tables

- **Key** is the full name, as you type it: `loss.temperature=0.1`.
- **Type** is what the key accepts. `or null` means that `null` is a value of the key.
  `node` is a mapping that names a class or function with `_target_`, and its arguments beside it.
- **Default** is the value without any override. `${{…}}` is the value of another key. *Required* has no default:
  you name it, or another choice sets it, such as the recipe.
- Where the options of a group differ, the default stands behind the option's name: `hnsw`: 2.

To see the values that a command line results in, without running it:

```bash
simcse-lit train loss=sup --cfg job
```
"""


def overview() -> str:
    """Return the page that explains the tables and lists the groups."""
    rows = [
        [
            group.link,
            ", ".join(map(code, group.chosen)),
            ", ".join(dict.fromkeys(code(group.leaf(entry.key)) for entry in group.entries)),
        ]
        for group in GROUPS.values()
    ]
    verbs = ", ".join(f"[{verb}](commands.md#{verb})" for verb in COMPOSED)
    return START + OVERVIEW.format(verbs=verbs, groups=table(["group", "commands", "keys"], rows))


def group_pages() -> dict[Path, str]:
    """Return the page of each part of groups.yaml, by its path."""
    made = {}
    for name, prose in PROSE["pages"].items():
        path = FOLDER / "configuration" / f"{name}.md"
        intro = fill(f"{prose['about']} [How to read the tables](../configuration.md#the-tables).")
        sections = "".join(section(GROUPS[group], path) for group in prose["groups"])
        see = "".join(f"- {link(ROOT / 'docs' / each, path)}\n" for each in prose["see"])
        made[path] = f"{START}# {prose['title']}\n\n{intro}\n\n{sections}## See also\n\n{see}"
    return made


def section(group: Group, page: Path) -> str:
    """Return the section of a group: how it is chosen, its keys, its options."""
    lead = f"{group.about} {group.how.replace('{name}', group.name)}"
    defaults = {verb: choice for verb, choice in group.chosen.items() if choice not in ("default", "null")}
    if len(set(defaults.values())) == 1:
        lead += f" The default is `{next(iter(defaults.values()))}`."
    elif defaults:
        lead += f" The default is {' and '.join(f'`{choice}` in `{verb}`' for verb, choice in defaults.items())}."
    parts = [f"## {group.name}\n", f"{fill(lead)}\n", keys_of_group(group, page)]
    if group.name == "tasks":
        parts.append(f"{TASKS}\n\n{task_arguments(group, page)}")
    if group.options and group.name != "classifier":
        parts.append(option_table(group, page))
    return "\n".join(part for part in parts if part) + "\n"


def option_table(group: Group, page: Path) -> str:
    """Return the options of a group: what each is, and which shared values it changes."""
    rows = []
    for name, file in group.options.items():
        shown = f"recipe/{name}" if group.name == "recipe" else name
        sets = [] if group.preset or group.name == "tasks" else changes(group, file)
        rows.append([f"[`{shown}`]({relative(file.path, page)})", head(file, page, not group.preset), ", ".join(sets)])
    width = 3 if any(row[2] for row in rows) else 2
    return table(["option", "what it is", "sets"][:width], [row[:width] for row in rows])


def changes(group: Group, file: ConfFile) -> list[str]:
    """Return what an option sets: other groups, other values of keys that its group shares, and keys of other groups."""
    sets = []
    for key, choice in file.defaults:
        if key.startswith("override "):
            sets.append(code(f"{key.removeprefix('override ').lstrip('/')}={choice}"))
        elif not key and choice.partition("@")[0] not in ("_self_", group.shared):
            sets.append(f"as `{choice}`")
    for entry in file.entries:
        shared = group.base and group.base[entry.key]
        differs = shared.value != entry.value if shared else not group.holds(entry.key)
        if differs and entry.value is not None and group.leaf(entry.key) != "name":
            value = re.sub(r"([0-9a-f]{8})[0-9a-f]{56}", r"\1…", entry.value)
            sets.append(f"`{entry.key}` is required" if value == "???" else code(f"{entry.key}={value}"))
    return sets


def head(file: ConfFile, page: Path, commands: bool) -> str:
    """Return the comment at the head of a file; with its command, unless that says no more than the option's name."""
    words = []
    for line in file.head:
        text, run, command = re.fullmatch(r"(.*?) ?(Run(?: on [^:]*)?: |$)(.*)", line).groups()
        if text:
            words.append(markdown(text, page))
            if re.search("=[^`]*`$", words[-1]) and len(words) < len(file.head):
                words[-1] += "."
        if run and commands and not ONE_CHOICE.fullmatch(command):
            words.append(f"{run}{code(command)}" + "." * (line is not file.head[-1]))
    return " ".join(words)


def task_arguments(group: Group, page: Path) -> str:
    """Return the functions that make tasks, with their arguments."""
    targets = {entry.target for file in group.options.values() for entry in file.entries}
    rows = [
        [code(target.removeprefix("simcse_lit.evaluation.")), code(name), in_words(kind), markdown(words, page)]
        for target in sorted({*targets, "simcse_lit.evaluation.sts.file"})
        for name, (kind, words) in arguments(target).items()
        if name not in ("files", "name", "classifier")
    ]
    return table(["function", "argument", "type", "what it does"], rows)
