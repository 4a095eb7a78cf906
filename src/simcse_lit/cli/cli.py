"""Finds the verb that a command line names, and passes on to the module that runs it."""

import sys
from collections.abc import Callable
from importlib import import_module
from io import TextIOWrapper
from typing import Any

from simcse_lit import __version__
from simcse_lit.cli.verbs import PLAIN, VERBS, listed
from simcse_lit.errors import did_you_mean


def main() -> None:
    """Run `simcse-lit VERB ARGUMENTS` or `python -m simcse_lit VERB ARGUMENTS`; without a verb, list all verbs."""
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
    """Run a verb with the arguments of this process, then exit.

    The exit status is 0; 1, with a message on standard error, for a mistake that the user can fix; 130 or 143 after a
    signal.

    Args:
        verb: name of the verb.
        task: function to call with the composed configuration in place of the verb's work.

    Example:
        A command around `train`: `run("train", task)`.
    """
    say_anything()
    runner = import_module("simcse_lit.cli.plain" if verb in PLAIN else "simcse_lit.cli.composed")
    runner.run(verb, *([task] if task else []))
    sys.exit()


def say_anything() -> None:
    r"""Make standard output and error accept every character; one that their encoding lacks is written as \uXXXX.

    An error handler that the user has set (PYTHONIOENCODING=cp1252:replace) is kept.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")
