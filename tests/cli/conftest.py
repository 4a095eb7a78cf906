"""The example package examples/my_lab, installed into a folder of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import LIMIT_S, ROOT


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the package, and nothing else."""
    folder = tmp_path_factory.mktemp("my_lab")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(folder), str(ROOT / "examples" / "my_lab")], check=True, timeout=LIMIT_S)
    return folder


@pytest.fixture
def in_lab(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands of the test find the package."""
    monkeypatch.setenv("PYTHONPATH", str(installed), prepend=os.pathsep)
