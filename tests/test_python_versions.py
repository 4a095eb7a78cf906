"""The versions of Python that pyproject.toml allows."""

import argparse
import re

import pytest
from hydra._internal.utils import get_args_parser

from tests.conftest import ROOT


def refused_by_3_14(parser: argparse.ArgumentParser) -> list[str]:
    """The options that Python 3.14 does not add: it looks for a % in their help at once, and that must be a text."""
    return [action.dest for action in parser._actions if action.help and not isinstance(action.help, str)]


def test_python_3_14_is_left_out_for_as_long_as_hydra_does_not_start_there() -> None:
    line = re.search(r'^requires-python = "(.*?)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert line is not None
    if refused_by_3_14(get_args_parser()):
        assert line[1] == ">=3.10,<3.14"
    else:
        pytest.fail("Hydra's options have texts as help now: let requires-python admit 3.14.")
