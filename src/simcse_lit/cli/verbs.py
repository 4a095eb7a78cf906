"""The names of the verbs, and what the docstrings of their files say, read without importing them."""

import ast
from pathlib import Path

COMPOSED = ("train", "evaluate", "encode", "similarity", "index", "search", "serve", "export", "import_checkpoint")
PLAIN = ("report", "dashboard")  # read arguments of their own (`plain.py`), and no conf/VERB.yaml
VERBS = (*COMPOSED, *PLAIN)

HEAD = "simcse-lit VERB ...: train, ablate, evaluate and use SimCSE sentence encoders.\n"
FOOT = "\nWhat a verb takes: simcse-lit VERB --help. Which version this is: --version."


def about(verb: str) -> str:
    """The docstring of a verb's file."""
    file = Path(__file__).resolve().parents[1] / f"{verb}.py"
    return ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""


def listed() -> str:
    """All verbs with the first line of each, for the terminal."""
    lines = [f"  {verb:<18} {about(verb).splitlines()[0]}" for verb in VERBS]
    return "\n".join([HEAD, *lines, FOOT])
