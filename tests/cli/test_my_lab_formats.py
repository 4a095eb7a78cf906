"""What examples/my_lab brings for the end of a run: a schedule, an adapter and an export format."""

import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest

from simcse_lit import SimCSE
from tests.cli.test_resume import interrupted, outcome, run
from tests.conftest import Cli, metrics

SETTINGS = (
    *("optimizer=triangular", "optimizer.schedule.cycles=2", "optimizer.lr=0.01", "adapter=scaling", "loss=unsup"),
    *("data=samples", "model=tiny", "trainer=cpu", "senteval.from_hub=false", "tasks=[]", "tasks@dev=samples-dev"),
    *("data.batch_size=32", "trainer.max_steps=8", "trainer.val_check_interval=4", "trainer.log_every_n_steps=1"),
    *("evaluation.before=false", "analyses=[]"),
)


@pytest.fixture(scope="module")
def trained() -> dict[str, Path]:
    """The run of the first test that needed one."""
    return {}


@pytest.fixture
def whole(trained: dict[str, Path], cli: Cli, in_lab: None, tmp_path: Path) -> Path:
    """A run of the package's schedule and adapter."""
    if "run" not in trained:
        folder = tmp_path / "whole"
        done = run(cli, folder, f"hydra.run.dir={folder}", settings=SETTINGS)
        assert done.returncode == 0, done.stderr
        trained["run"] = folder
    return trained["run"]


def test_the_rate_goes_along_the_packages_schedule(whole: Path) -> None:
    rates = next(values for name, values in metrics(whole).items() if name.startswith("lr-"))
    assert rates == pytest.approx([0, 0.005, 0.01, 0.005] * 2)


def test_a_stopped_run_ends_as_one_that_was_not(whole: Path, cli: Cli, tmp_path: Path) -> None:
    stopped = tmp_path / "stopped"
    left = interrupted(cli, stopped, 3, signal.SIGTERM, settings=SETTINGS)
    assert left.returncode == 128 + signal.SIGTERM, left.stderr
    continued = run(cli, stopped, f"resume={stopped}", "~callbacks.signal", settings=())
    assert continued.returncode == 0, continued.stderr
    assert outcome(stopped) == outcome(whole)


def test_a_checkpoint_is_exported_in_the_packages_format_and_its_card_says_how_to_use_it(
    whole: Path, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    best = next((whole / "checkpoints").glob("best-*.ckpt"))
    done = cli(f"checkpoint={best}", "format=table", "format.dtype=float32", "output=table", command="export")
    assert done.returncode == 0, done.stderr
    card = (tmp_path / "table" / "README.md").read_text(encoding="utf-8")
    assert "library_name: numpy\n" in card
    code = re.search(r"```python\n(.*?)\n```", card, re.DOTALL)
    assert code is not None
    monkeypatch.chdir(tmp_path / "table")
    found: dict[str, np.ndarray] = {}
    exec(code[1].replace('["A man is playing a guitar.", "Somebody makes music."]', '["man", "music", "man music"]'), found)
    own = SimCSE(str(whole / "export")).encode(["man", "music"], return_numpy=True, normalize_to_unit=False)
    np.testing.assert_allclose(found["vectors"][:2], own, atol=1e-4)
    np.testing.assert_allclose(found["vectors"][2], np.mean(own, axis=0), atol=1e-4)


def test_without_the_package_a_checkpoint_names_it_and_the_export_needs_it_not(
    whole: Path, cli: Cli, installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [path for path in os.environ["PYTHONPATH"].split(os.pathsep) if path != str(installed)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(others))
    best = next((whole / "checkpoints").glob("best-*.ckpt"))
    refused = cli(f"checkpoint={best}", "output=copy", command="export")
    assert refused.returncode == 1
    assert "was trained with adapter=scaling, which no installed package brings: pip install my-lab." in refused.stderr
    assert f"checkpoint={whole / 'export'}" in refused.stderr
    copied = cli(f"checkpoint={whole / 'export'}", "output=copy", command="export")
    assert copied.returncode == 0, copied.stderr
