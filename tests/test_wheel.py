"""The wheel carries conf/ and the bundled text, and trains from any directory with a user's own configuration."""

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT, Cli


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (path,) = folder.glob("*.whl")
    return path


def test_wheel_holds_every_configuration_file_and_sample(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for path in (ROOT / "conf").rglob("*.yaml"):
        assert f"simcse_lit/conf/{path.relative_to(ROOT / 'conf').as_posix()}" in names
    for path in (ROOT / "src" / "simcse_lit" / "data" / "samples").rglob("*.*"):
        if path.is_file() and "__pycache__" not in path.parts:
            assert f"simcse_lit/data/samples/{path.relative_to(ROOT / 'src/simcse_lit/data/samples').as_posix()}" in names


@pytest.mark.long
def test_installed_wheel_trains_from_another_directory_with_a_users_configuration(
    wheel: Path, cli: Cli, tmp_path: Path
) -> None:
    environment = tmp_path / "env"
    venv.create(environment, with_pip=False)
    python = environment / "bin" / "python"
    site = Path(sysconfig.get_path("purelib", vars={"base": str(environment), "platbase": str(environment)}))
    # The libraries come from this environment; simcse_lit itself can only come from the wheel, which stands first.
    zipfile.ZipFile(wheel).extractall(site)
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    mine = tmp_path / "mine" / "experiment"
    mine.mkdir(parents=True)
    (mine / "short.yaml").write_text(
        "# @package _global_\ndefaults: [quickstart, _self_]\ntrainer: {max_steps: 2}\nname: short\n"
    )
    where = subprocess.run(
        [str(python), "-c", "import simcse_lit; print(simcse_lit.__file__)"], capture_output=True, text=True, cwd=tmp_path
    )
    assert str(site) in where.stdout
    done = cli("--config-dir", "mine", "experiment=short", interpreter=str(python))
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "outputs" / "short").iterdir()
    assert (run / "export" / "model.safetensors").is_file()
