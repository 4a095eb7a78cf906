"""The page of the commands."""

import re
from itertools import groupby

from groups import FOLDER, GROUPS, chosen
from keys import keys_of_verb
from markup import MADE, fill, table

from simcse_lit.cli.verbs import COMPOSED, VERBS, about

PAGE = FOLDER / "commands.md"
TEXT = """\
# Commands

```bash
simcse-lit VERB --help
```

{verbs}
`python -m simcse_lit.VERB` is the same as `simcse-lit VERB`. `simcse-lit --version` prints the version.

## Words that every verb with a configuration accepts

`report` and `dashboard` read other arguments; their sections list them.

| word | what it does |
|---|---|
| `key=value` | changes a key; [Configuration keys](configuration.md) lists those of the groups |
| `group=option` | chooses a file of `conf/group/` |
| `+key=value` | adds a key where a mapping is open, such as `trainer.extra` |
| `~key` | removes a key or a group |
| `--config-dir DIR` | adds your own folder to `conf/` |
| `--cfg job` | prints the configuration, without running it |
| `--help` | prints the verb's groups, keys and values |
| `-m` | runs a job for each combination of values; `train` and `evaluate` only |
| `--hydra-help` | lists Hydra's other options |

## Exit statuses

| status | meaning |
|---:|---|
| 0 | the command did what you asked for |
| 1 | a mistake that the message explains, a task that could not be scored, or a job of a multirun that failed |
| 2 | `report` and `dashboard`: wrong arguments; the others: an option that Hydra does not know |
| 130 | stopped with Ctrl-C |
| 143 | stopped with SIGTERM; `train` saves a checkpoint first, and `resume=auto` continues from it |

Messages of mistakes go to standard error. `HYDRA_FULL_ERROR=1` shows the stack too.

{sections}
"""


def commands() -> str:
    """Return the page of the commands."""
    verbs = table(["verb", "what it does"], [[f"[`{verb}`](#{verb})", about(verb).splitlines()[0]] for verb in VERBS])
    made = MADE.format(sources="the docstrings of src/simcse_lit/VERB.py, `conf/` and schema.py")
    return made + TEXT.format(verbs=verbs, sections="\n\n".join(map(section, VERBS)))


def section(verb: str) -> str:
    """Return what a command does, its examples, and its own keys."""
    first, *rest = about(verb).splitlines()
    parts = [f"## {verb}", first]
    for indented, lines in groupby(rest, lambda line: line.startswith("  ")):
        text = "\n".join(line[2 * indented :] for line in lines)
        if indented:
            parts.append(block(text))
        elif text.strip() not in ("", "Examples:"):
            parts.append(re.sub(r"^\w+:$", lambda found: found[0].capitalize(), text.strip(), flags=re.MULTILINE))
    if verb in COMPOSED:
        parts += [fill(f"Groups: {', '.join(GROUPS[group].link for group in chosen(verb))}."), keys_of_verb(verb, PAGE)]
    return "\n\n".join(parts).rstrip("\n")


def block(text: str) -> str:
    """Return a block of code; the explanation of a command is a comment behind it."""
    if "simcse-lit" not in text:
        return f"```text\n{text}\n```"
    return "```bash\n" + re.sub(r"(?<=\S)  +(?=\S)", "  # ", text) + "\n```"
