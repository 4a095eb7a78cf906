"""What the documents hold: blocks of code, and the commands in them."""

import json
import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.warm_start import ROOT

DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "experiments").glob("*/*.md"),
        *(ROOT / "examples").rglob("*.md"),
    ]
)
NOTEBOOKS = sorted((ROOT / "docs").rglob("*.ipynb"))
SHELL = ("bash", "sh", "shell", "console")
OURS = re.compile(r"(?:python -m simcse_lit[ .]|simcse-lit )([a-z_]+)\b ?(.*)")


class Block(NamedTuple):
    """A block of code: its language, or "" for one that names none, and its text without the indentation."""

    language: str
    text: str


class Command(NamedTuple):
    """A line of the shell that a document tells the reader to type."""

    document: str
    line: str


def blocks(text: str) -> list[Block]:
    """Every block of code of a Markdown text: fenced, or indented by four spaces up to a blank line."""
    fenced = re.compile(r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL)
    found = [Block(match["language"], textwrap.dedent(match["text"])) for match in fenced.finditer(text)]
    indented = re.compile(r"(?:(?<=\n\n)|\A)((?:    .*\n)+)")
    return found + [Block("", textwrap.dedent(match[1])) for match in indented.finditer(fenced.sub("", text))]


def shown_files(text: str, folder: str) -> dict[str, str]:
    """The YAML files below `folder` that a document shows: the name in the first line's comment, and the text."""
    start = re.compile(rf"^# ({folder}/[\w/-]+\.yaml)\n", re.MULTILINE)
    shown = {}
    for block in blocks(text):
        names = list(start.finditer(block.text))
        ends = [*(match.start() for match in names[1:]), len(block.text)]
        shown.update({match[1]: block.text[match.end() : end] for match, end in zip(names, ends, strict=False)})
    return shown


def own_files(text: str) -> dict[str, str]:
    """What a document tells the reader to save: `NAME.py` in the first line of a block of Python, and "as `NAME`:" before
    any other block.
    """
    python = r"^```python\n# (\w+\.py)\n(.*?)^```"
    other = r"^Save .* as `([\w.]+)`:\n\n```\w+\n(.*?)^```"
    return {name: lines for form in (python, other) for name, lines in re.findall(form, text, re.MULTILINE | re.DOTALL)}


def commands() -> list[Command]:
    """Every command of the documents and notebooks, each once for the first document that shows it."""
    seen: dict[str, str] = {}
    for path in [*DOCUMENTS, *NOTEBOOKS]:
        for line in lines_of(path):
            seen.setdefault(line, str(path.relative_to(ROOT)))
    return [Command(document, line) for line, document in seen.items()]


def lines_of(path: Path) -> Iterator[str]:
    """The commands of one document, without what explains them."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
        for cell in cells:
            source = "".join(cell["source"])
            yield from (line[1:] for line in source.splitlines() if line.startswith("!"))
        return
    for block in blocks(text):
        if block.language in SHELL or not block.language:
            joined = block.text.replace("\\\n", " ")
            for line in joined.splitlines():
                typed = without_comment(line.strip().removeprefix("$ "))
                if typed and (block.language in SHELL or OURS.match(typed) or typed.startswith("make ")):
                    yield typed


def without_comment(line: str) -> str:
    """A line of the shell without its comment; what two spaces set apart is one too."""
    words = re.split(r"\s{2,}(?=#)|^#", line)[0].strip()
    try:
        shlex.split(words)
    except ValueError:
        return line
    return re.sub(r" {2,}", " ", words)
