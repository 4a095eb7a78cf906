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
from omegaconf import OmegaConf

from simcse_lit.config.resume import LAST, checkpoint_to_resume
from simcse_lit.errors import UserError
from simcse_lit.training.checkpoints import RunCheckpointIO
from tests.conftest import Cli, train_config

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
from types import SimpleNamespace
from pytorch_lightning.callbacks import Callback
from simcse_lit.training.callbacks import FiniteLoss

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

class AsOnGpu(FiniteLoss):
    def on_train_batch_end(self, trainer, module, *step):
        super().on_train_batch_end(trainer, SimpleNamespace(device=torch.device("cuda")), *step)

    def on_exception(self, trainer, module, exception):
        print("stopped by", type(exception).__name__)
"""


def run(command: Cli, folder: Path, *arguments: str, settings: tuple[str, ...] = SETTINGS) -> Any:
    modules = folder.parent / "modules"
    modules.mkdir(parents=True, exist_ok=True)
    (modules / "of_this_test.py").write_text(CALLBACKS)
    path = os.pathsep.join([str(modules), *filter(None, [os.environ.get("PYTHONPATH")])])
    return command(*settings, *arguments, env={"PYTHONPATH": path})


def interrupted(
    cli: Cli, folder: Path, at: int, number: signal.Signals, *arguments: str, settings: tuple[str, ...] = SETTINGS
) -> Any:
    return run(
        cli,
        folder,
        f"hydra.run.dir={folder}",
        "resume=auto",
        "+callbacks.signal._target_=of_this_test.Signal",
        f"+callbacks.signal.step={at}",
        f"+callbacks.signal.number={int(number)}",
        *arguments,
        settings=settings,
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


@pytest.mark.long
def test_killed_at_three_steps_the_weights_and_metrics_are_the_same(
    cli: Cli, tmp_path: Path, reference: tuple[str, list[dict[str, str]]]
) -> None:
    steps = sorted(random.Random(STEPS).sample(range(1, STEPS), 3))
    for at in steps:
        assert interrupted(cli, tmp_path / "run", at, signal.SIGKILL).returncode == -signal.SIGKILL, steps
    assert run(cli, tmp_path / "run", f"hydra.run.dir={tmp_path / 'run'}", "resume=auto").returncode == 0
    assert outcome(tmp_path / "run") == reference, f"killed at steps {steps}"


@pytest.mark.long
def test_sigterm_saves_at_any_step_and_exits_as_schedulers_expect(
    cli: Cli, tmp_path: Path, reference: tuple[str, list[dict[str, str]]]
) -> None:
    """In the middle, at a step that is scored, and at the end of an epoch."""
    for at in (10, 21, 25):
        stopped = interrupted(cli, tmp_path / "run", at, signal.SIGTERM)
        assert stopped.returncode == 128 + signal.SIGTERM
        state = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
        assert state["global_step"] == at
        assert f"after step {at}. Resume with: resume={tmp_path / 'run'}" in stopped.stdout
    # The folder alone is enough: it remembers what the run was started with.
    continued = run(cli, tmp_path / "run", f"resume={tmp_path / 'run'}", "~callbacks.signal", settings=())
    assert continued.returncode == 0, continued.stderr
    assert outcome(tmp_path / "run") == reference
    again = run(cli, tmp_path / "run", f"resume={tmp_path / 'run'}", settings=())
    assert again.returncode == 0 and "is finished" in again.stdout and "Epoch" not in again.stderr


@pytest.mark.long
def test_a_run_whose_last_checkpoint_is_damaged_goes_on_from_its_best_with_the_same_result(
    cli: Cli, tmp_path: Path, reference: tuple[str, list[dict[str, str]]]
) -> None:
    folder = tmp_path / "run"
    assert interrupted(cli, folder, 30, signal.SIGTERM).returncode == 128 + signal.SIGTERM
    last = folder / "checkpoints" / "last.ckpt"
    (best,) = last.parent.glob("best-*.ckpt")
    whole = bytearray(last.read_bytes())
    whole[len(whole) // 2] ^= 1
    last.write_bytes(whole)
    refused = run(cli, folder, f"resume={folder}", "~callbacks.signal", settings=())
    assert refused.returncode == 1 and "Traceback" not in refused.stderr
    assert f"{last}: was changed after it was written" in refused.stderr and f"resume={best}" in refused.stderr
    continued = run(cli, folder, f"resume={best}", settings=())  # the refused one has left the signal out for good
    assert continued.returncode == 0, continued.stderr
    assert f"from step {int(best.stem[-6:])}" in continued.stdout
    assert outcome(folder) == reference


def test_a_run_whose_best_checkpoint_is_gone_is_answered_before_it_trains_on(warm_cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert interrupted(warm_cli, folder, 10, signal.SIGTERM).returncode == 128 + signal.SIGTERM
    (best,) = (folder / "checkpoints").glob("best-*.ckpt")
    best.unlink()
    refused = run(warm_cli, folder, f"resume={folder}", "~callbacks.signal", settings=())
    assert refused.returncode == 1 and "Traceback" not in refused.stderr and "Corpus" not in refused.stdout
    assert f"{best}: is missing" in refused.stderr
    way = refused.stderr[refused.stderr.index("checkpoint=") :].split()[0]
    assert warm_cli(way, f"output={tmp_path / 'saved'}", command="export").returncode == 0


def test_another_run_is_not_continued(warm_cli: Cli, tmp_path: Path, undisturbed: dict[str, Any], reference: Any) -> None:
    folder = undisturbed["folder"]
    refused = run(warm_cli, tmp_path / "run", f"hydra.run.dir={folder}", "resume=auto", "optimizer.lr=1e-3")
    assert refused.returncode == 1
    assert "optimizer.lr was 0.0003" in refused.stderr and "hydra.run.dir=DIR" in refused.stderr
    missing = run(warm_cli, tmp_path / "run", f"resume={tmp_path / 'nowhere'}")
    assert missing.returncode == 1 and "no run to resume" in missing.stderr
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


def test_sigterm_does_not_save_what_has_diverged_since_losses_were_looked_at(warm_cli: Cli, tmp_path: Path) -> None:
    """On a GPU that is now and then; here the tenth loss is NaN, and the signal comes one step later."""
    folder = tmp_path / "run"
    as_on_gpu = ("callbacks.finite_loss._target_=of_this_test.AsOnGpu", "trainer.log_every_n_steps=50")
    poison = "+callbacks.poison._target_=of_this_test.Poison"
    failed = interrupted(warm_cli, folder, 11, signal.SIGTERM, *as_on_gpu, poison)
    assert failed.returncode == 1 and "loss of step 10 is nan" in failed.stderr
    assert "stopped by UserError" in failed.stdout  # as by any other failure, so that Lightning puts everything back
    state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["global_step"] == 7
    assert all(value.isfinite().all() for value in state["state_dict"].values())


def of_a_file(text: Path) -> tuple[str, ...]:
    """Settings of a run of 20 steps on a text of 100 lines."""
    return (
        "model=tiny", "trainer=cpu", "data=file", f"data.train_file={text}", "data.batch_size=10", "trainer.max_epochs=2",
        "trainer.val_check_interval=7", "senteval.from_hub=false", "evaluation.before=false", "evaluation.test=false",
    )  # fmt: skip


@pytest.mark.long
def test_with_the_optimiser_and_the_head_of_the_papers_code_a_run_is_continued_bit_for_bit(cli: Cli, tmp_path: Path) -> None:
    text = tmp_path / "train.txt"
    text.write_text("".join(f"sentence {number} of a hundred\n" for number in range(100)))
    settings = (*of_a_file(text), "optimizer=adamw_paper", "loss.mlm_weight=0.1", "loss.mlm_tied=false", "pooler=avg")
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert run(cli, whole, f"hydra.run.dir={whole}", settings=settings).returncode == 0
    assert interrupted(cli, stopped, 9, signal.SIGTERM, settings=settings).returncode == 128 + signal.SIGTERM
    continued = run(cli, stopped, f"resume={stopped}", "~callbacks.signal", settings=())
    assert continued.returncode == 0, continued.stderr
    assert outcome(stopped) == outcome(whole)


def test_a_run_is_not_continued_on_another_text(warm_cli: Cli, tmp_path: Path) -> None:
    text, folder = tmp_path / "train.txt", tmp_path / "run"
    lines = [f"sentence {number} of a hundred\n" for number in range(100)]
    text.write_text("".join(lines))
    settings, resume = of_a_file(text), (f"hydra.run.dir={folder}", "resume=auto")
    assert interrupted(warm_cli, folder, 12, signal.SIGTERM, settings=settings).returncode == 128 + signal.SIGTERM
    for other in ([*lines, *lines[:20]], lines[::-1]):
        text.write_text("".join(other))
        refused = run(warm_cli, folder, *resume, settings=settings)
        assert refused.returncode == 1
        for part in ("data.train_file", f"100 examples then, {len(other)} now", str(text), "hydra.run.dir=DIR"):
            assert part in refused.stderr
        assert torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 12
    text.write_text("".join(lines))
    free = ("data.on_bad_row=skip", f"data.cache_dir={tmp_path / 'cache'}")
    continued = run(warm_cli, folder, *resume, *free, settings=settings)
    assert continued.returncode == 0, continued.stderr
    assert "from step 12" in continued.stdout


def test_a_checkpoint_of_an_earlier_version_which_does_not_know_its_text_is_continued(warm_cli: Cli, tmp_path: Path) -> None:
    text, folder = tmp_path / "train.txt", tmp_path / "run"
    text.write_text("".join(f"line {number}\n" for number in range(100)))
    settings = of_a_file(text)
    assert interrupted(warm_cli, folder, 8, signal.SIGTERM, settings=settings).returncode == 128 + signal.SIGTERM
    path = folder / "checkpoints" / "last.ckpt"
    state = torch.load(path, weights_only=True)
    assert state.pop("SimCSEDataModule")["examples"] == 100
    torch.save(state, path)
    text.write_text("".join(f"another line {number}\n" for number in range(100)))
    continued = run(warm_cli, folder, f"hydra.run.dir={folder}", "resume=auto", settings=settings)
    assert continued.returncode == 0, continued.stderr


def test_another_revision_is_refused_where_the_text_is_not_compared(tmp_path: Path) -> None:
    """That of a stream is not; of any other corpus it is, and a revision may be what brings the old text back."""
    stream = ("data=stream", "data.train_file=hf://datasets/some/thing", "trainer.max_steps=9")
    for name, options in (("stored", ("data=wiki1m",)), ("stream", stream)):
        folder = tmp_path / name
        settings = ("model=tiny", *options, f"run_dir={folder}", "resume=auto")
        (folder / LAST).parent.mkdir(parents=True)
        (folder / LAST).touch()
        OmegaConf.save(OmegaConf.structured(train_config(*settings)), folder / "config.yaml", resolve=True)
        assert checkpoint_to_resume(train_config(*settings)) == folder / LAST
        changed = train_config(*settings, "data.revision=v2")
        if name == "stored":
            assert checkpoint_to_resume(changed) == folder / LAST
        else:
            with pytest.raises(UserError, match=r"data\.revision was None .* but is v2 now"):
                checkpoint_to_resume(changed)


def test_a_checkpoint_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    RunCheckpointIO().save_checkpoint({"step": 1}, path)

    class Unwritable:
        def __reduce__(self) -> Any:
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        RunCheckpointIO().save_checkpoint({"step": 2, "weights": torch.ones(9), "state": Unwritable()}, path)
    assert torch.load(path, weights_only=True)["step"] == 1
