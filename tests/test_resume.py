"""A run that is killed or preempted anywhere ends with the very weights and metrics of one that was left alone."""

import csv
import hashlib
import json
import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from simcse_lit.model.checkpoints import AtomicCheckpointIO

from .conftest import Cli

STEPS = 50  # two epochs of 25
SETTINGS = (
    "experiment=quickstart",
    "model=tiny",
    "data.batch_size=32",
    "trainer.max_epochs=2",
    "trainer.val_check_interval=7",
    "trainer.log_every_n_steps=5",
    "evaluation.before=false",
    "demo.queries=[]",
)
CALLBACKS = """
import os, torch
from pytorch_lightning.callbacks import Callback

class Signal(Callback):
    def __init__(self, step, number):
        self.step, self.number = step, number

    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == self.step:
            os.kill(os.getpid(), self.number)

class Poison(Callback):
    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if trainer.global_step == 9:
            with torch.no_grad():
                next(module.encoder.parameters()).fill_(torch.nan)
"""


def run(command: Cli, folder: Path, *arguments: str, settings: tuple[str, ...] = SETTINGS) -> Any:
    modules = folder.parent / "modules"
    modules.mkdir(exist_ok=True)
    (modules / "of_this_test.py").write_text(CALLBACKS)
    path = os.pathsep.join([str(modules), *filter(None, [os.environ.get("PYTHONPATH")])])
    return command(*settings, *arguments, env={"PYTHONPATH": path})


def interrupted(cli: Cli, folder: Path, at: int, number: signal.Signals) -> Any:
    return run(
        cli,
        folder,
        f"hydra.run.dir={folder}",
        "resume=auto",
        "+callbacks.signal._target_=of_this_test.Signal",
        f"+callbacks.signal.step={at}",
        f"+callbacks.signal.number={int(number)}",
    )


def outcome(folder: Path) -> tuple[str, list[dict[str, str]]]:
    """Digest of the exported weights, and every logged number that is no measure of speed."""
    with (folder / "metrics.csv").open() as file:
        rows = [
            {name: value for name, value in row.items() if value and "second" not in name} for row in csv.DictReader(file)
        ]
    weights = (folder / "export" / "model.safetensors").read_bytes()
    return hashlib.sha256(weights).hexdigest(), [row for row in rows if row.keys() - {"step", "epoch"}]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return {"folder": tmp_path_factory.mktemp("undisturbed") / "run"}


@pytest.fixture
def reference(cli: Cli, undisturbed: dict[str, Any]) -> tuple[str, list[dict[str, str]]]:
    if not undisturbed["folder"].exists():
        assert run(cli, undisturbed["folder"], f"hydra.run.dir={undisturbed['folder']}").returncode == 0
    return outcome(undisturbed["folder"])


def test_killed_at_three_random_steps_the_weights_and_metrics_are_the_same(
    cli: Cli, tmp_path: Path, reference: tuple[str, list[dict[str, str]]]
) -> None:
    steps = sorted(random.sample(range(1, STEPS), 3))
    for at in steps:
        assert interrupted(cli, tmp_path / "run", at, signal.SIGKILL).returncode == -signal.SIGKILL, steps
    assert run(cli, tmp_path / "run", f"hydra.run.dir={tmp_path / 'run'}", "resume=auto").returncode == 0
    assert outcome(tmp_path / "run") == reference, f"killed at steps {steps}"


def test_sigterm_saves_at_any_step_and_exits_as_schedulers_expect(
    cli: Cli, tmp_path: Path, reference: tuple[str, list[dict[str, str]]]
) -> None:
    """In the middle, at a step that is scored, and at the end of an epoch."""
    for at in (10, 21, 25):
        stopped = interrupted(cli, tmp_path / "run", at, signal.SIGTERM)
        assert stopped.returncode == 128 + signal.SIGTERM
        state = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
        assert state["global_step"] == at
        assert f"after step {at}. Continue with: resume={tmp_path / 'run'}" in stopped.stdout
    # The folder alone is enough: it remembers what the run was started with.
    continued = run(cli, tmp_path / "run", f"resume={tmp_path / 'run'}", "~callbacks.signal", settings=())
    assert continued.returncode == 0, continued.stderr
    assert outcome(tmp_path / "run") == reference
    again = run(cli, tmp_path / "run", f"resume={tmp_path / 'run'}", settings=())
    assert again.returncode == 0 and "is finished" in again.stdout and "Epoch" not in again.stderr


def test_another_run_is_not_continued(warm_cli: Cli, tmp_path: Path, undisturbed: dict[str, Any], reference: Any) -> None:
    folder = undisturbed["folder"]
    refused = run(warm_cli, tmp_path / "run", f"hydra.run.dir={folder}", "resume=auto", "optimizer.lr=1e-3")
    assert refused.returncode == 1
    assert "optimizer.lr was 0.0003" in refused.stderr and "hydra.run.dir=DIR" in refused.stderr
    missing = run(warm_cli, tmp_path / "run", f"resume={tmp_path / 'nowhere'}")
    assert missing.returncode == 1 and "no run to continue" in missing.stderr
    elsewhere = run(warm_cli, tmp_path / "run", f"resume={folder}", f"hydra.run.dir={tmp_path / 'other'}", settings=())
    assert elsewhere.returncode == 1 and "in its own folder" in elsewhere.stderr
    assert outcome(folder) == reference


def test_a_loss_that_is_not_finite_names_step_rows_and_checkpoint_which_stays(warm_cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    failed = run(warm_cli, folder, f"hydra.run.dir={folder}", "+callbacks.poison._target_=of_this_test.Poison")
    assert failed.returncode == 1
    found = json.loads((folder / "nonfinite_batch.json").read_text())
    assert found["step"] == 10 and len(set(found["rows"])) == 32
    file, line = found["places"][0]
    assert [place for _, place in found["places"]] == [row + 2 for row in found["rows"]]  # a header, and lines count from 1
    for part in ("loss of step 10 is nan", f"{file}, lines {line}, ", "last.ckpt", "optimizer.lr"):
        assert part in failed.stderr
    state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["global_step"] == 7
    assert all(value.isfinite().all() for value in state["state_dict"].values())


def test_a_checkpoint_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"step": 1}, path)

    class Unwritable:
        def __reduce__(self) -> Any:
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        AtomicCheckpointIO().save_checkpoint({"step": 2, "weights": torch.ones(9), "state": Unwritable()}, path)
    assert torch.load(path, weights_only=True) == {"step": 1}
