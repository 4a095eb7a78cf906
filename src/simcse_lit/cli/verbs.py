"""The names of the verbs, and the docstrings of their files, read without importing them."""

import ast
from pathlib import Path

COMPOSED = ("train", "evaluate", "encode", "similarity", "index", "search", "serve", "export", "import_checkpoint")
PLAIN = ("report", "dashboard")  # they parse plain arguments (`plain.py`) and have no conf/VERB.yaml
VERBS = (*COMPOSED, *PLAIN)

HEAD = "simcse-lit VERB ...: train, ablate, evaluate and use SimCSE sentence encoders.\n"
FOOT = "\nHelp for a verb: simcse-lit VERB --help. The version: --version."


def about(verb: str) -> str:
    """Return the docstring of a verb's file."""
    file = Path(__file__).resolve().parents[1] / f"{verb}.py"
    return ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""


def listed() -> str:
    """Return all verbs with the first line of each docstring, for the terminal."""
    lines = [f"  {verb:<18} {about(verb).splitlines()[0]}" for verb in VERBS]
    return "\n".join([HEAD, *lines, FOOT])
