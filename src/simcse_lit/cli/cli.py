"""Finds the verb that a command line names, and hands over to what runs it."""

import sys
from collections.abc import Callable
from importlib import import_module
from io import TextIOWrapper
from typing import Any

from simcse_lit import __version__
from simcse_lit.cli.verbs import PLAIN, VERBS, listed
from simcse_lit.errors import did_you_mean


def main() -> None:
    """Run `simcse-lit VERB ARGUMENTS`, or `python -m simcse_lit VERB ARGUMENTS`; without a verb, list them all."""
    say_anything()
    verb, *arguments = sys.argv[1:] or ["--help"]
    if verb in ("-h", "--help"):
        print(listed())
    elif verb == "--version":
        print(f"simcse-lit {__version__}")
    elif verb in VERBS:
        sys.argv[1:] = arguments
        run(verb)
    else:
        print(f"\nError: {verb}: there is no such verb.{did_you_mean(verb, VERBS)}\n{listed()}", file=sys.stderr)
        sys.exit(1)


def run(verb: str, task: Callable[[Any], Any] | None = None) -> None:
    """Run a verb with the arguments of this process, and end the process.

    Args:
        verb: its name.
        task: what is done with the composed configuration, instead of what the verb does: a command of your own around ours
            calls `run("train", task)`.

    Exits with status 0; with 1 and a message on standard error for a mistake that the user can mend; with 130 or 143 when a
    signal stopped it.
    """
    say_anything()
    runner = import_module("simcse_lit.cli.plain" if verb in PLAIN else "simcse_lit.cli.composed")
    runner.run(verb, *([task] if task else []))
    sys.exit()


def say_anything() -> None:
    """Let standard output and error take every character: one that their encoding lacks is written as \\uXXXX.

    An error handler of the user's (PYTHONIOENCODING=cp1252:replace) stays.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")
