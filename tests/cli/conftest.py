"""Fixtures of tests that run commands."""

import os
from pathlib import Path

import pytest


@pytest.fixture
def in_lab(my_lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands of the test find the package."""
    monkeypatch.setenv("PYTHONPATH", str(my_lab), prepend=os.pathsep)
