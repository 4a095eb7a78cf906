"""Reads what the docstrings of our classes and functions say, without importing them."""

import ast
import re
from functools import cache

from conf_files import ROOT


def definition(target: str) -> ast.ClassDef | ast.FunctionDef | None:
    """Return the source of a class or function of ours."""
    module, _, name = target.rpartition(".")
    file = ROOT / "src" / f"{module.replace('.', '/')}.py"
    body = ast.parse(file.read_text(encoding="utf-8")).body if file.is_file() else []
    return next((node for node in body if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == name), None)


def first_line(target: str) -> str:
    """Return the first line of the docstring of a class or function of ours."""
    node = definition(target)
    return (ast.get_docstring(node) or "").partition("\n")[0] if node else ""


@cache
def arguments(target: str) -> dict[str, tuple[str, str]]:
    """Return the type and the explanation of each argument of a class or function of ours."""
    node = definition(target)
    if not node:
        return {}
    types: dict[str, str] = {}
    told = documented(node)
    init: ast.AST | None = node
    if isinstance(node, ast.ClassDef):
        for each in node.body:
            if isinstance(each, ast.AnnAssign):
                types[ast.unparse(each.target)] = ast.unparse(each.annotation)
        init = next((each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"), None)
    if isinstance(init, ast.FunctionDef):
        for argument in [*init.args.args, *init.args.kwonlyargs]:
            if argument.annotation:
                types[argument.arg] = ast.unparse(argument.annotation)
    return {name: (kind, told.get(name, "")) for name, kind in types.items()}


def documented(node: ast.ClassDef | ast.FunctionDef) -> dict[str, str]:
    """Return the `Args:` of a Google docstring."""
    found = re.search(r"^Args:\n((?:    .*\n?)+)", ast.get_docstring(node) or "", re.MULTILINE)
    parts = re.findall(r"^    (\w+): (.*(?:\n     .*)*)", found[1] if found else "", re.MULTILINE)
    return {name: re.sub(r"\n +", " ", text) for name, text in parts}
