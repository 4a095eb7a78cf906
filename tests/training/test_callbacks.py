"""FiniteLoss where no GPU is at hand: when it looks, what it lets pass, and what it says."""

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from simcse_lit.errors import UserError
from simcse_lit.training.callbacks import FiniteLoss


def a_trainer(folder: Path, *, scaler: object | None = None) -> Any:
    return SimpleNamespace(
        global_step=0,
        log_every_n_steps=5,
        default_root_dir=str(folder),
        precision_plugin=SimpleNamespace(scaler=scaler),
        datamodule=SimpleNamespace(
            rows_of=lambda batch: [10 * batch + place for place in range(9)],
            places_of=lambda rows: [("a.txt" if row < 14 else "b.txt", row + 100) for row in rows],
        ),
    )


def steps(callback: FiniteLoss, trainer: Any, device: str, losses: list[float]) -> None:
    module: Any = SimpleNamespace(device=torch.device(device))
    for batch, loss in enumerate(losses):
        trainer.global_step = batch + 1
        callback.on_train_batch_end(trainer, module, {"loss": torch.tensor(loss)}, None, batch)


def test_on_a_gpu_it_looks_at_logged_steps_and_names_the_first_bad_one(tmp_path: Path) -> None:
    trainer = a_trainer(tmp_path)
    steps(FiniteLoss(), trainer, "cuda", [1.0, float("nan"), float("inf"), 1.0])  # the fifth step would be logged
    with pytest.raises(UserError, match="loss of step 2 is nan") as caught:
        steps(FiniteLoss(), trainer, "cuda", [1.0, float("nan"), float("inf"), 1.0, 1.0])
    assert "a.txt, lines 110, 111, 112, 113; b.txt, lines 114, 115, 116, 117 and 1 more" in str(caught.value)
    assert json.loads((tmp_path / "nonfinite_batch.json").read_text()) == {
        "step": 2,
        "rows": list(range(10, 19)),
        "places": [["a.txt" if row < 14 else "b.txt", row + 100] for row in range(10, 19)],
    }


def test_files_that_have_changed_since_are_not_given_lines(tmp_path: Path) -> None:
    trainer = a_trainer(tmp_path)
    trainer.datamodule.places_of = lambda rows: None
    with pytest.raises(UserError, match="since the files have changed"):
        steps(FiniteLoss(), trainer, "cpu", [float("nan")])
    assert json.loads((tmp_path / "nonfinite_batch.json").read_text())["rows"] == list(range(9))


def test_on_a_gpu_it_looks_before_a_score_so_that_nothing_bad_is_saved(tmp_path: Path) -> None:
    callback, trainer = FiniteLoss(), a_trainer(tmp_path)
    steps(callback, trainer, "cuda", [1.0, float("inf")])
    with pytest.raises(UserError, match="loss of step 2 is inf"):
        callback.on_validation_start(trainer, SimpleNamespace())  # type: ignore[arg-type]


def test_on_a_gpu_it_looks_before_any_checkpoint_is_written(tmp_path: Path) -> None:
    callback, trainer = FiniteLoss(), a_trainer(tmp_path)
    steps(callback, trainer, "cuda", [1.0, float("nan")])
    module: Any = SimpleNamespace()
    with pytest.raises(UserError, match="loss of step 2 is nan"):
        callback.on_save_checkpoint(trainer, module, {})


def test_on_a_cpu_it_looks_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No checkpoint had been written yet"):
        steps(FiniteLoss(), a_trainer(tmp_path), "cpu", [float("nan")])


def test_with_a_scaler_the_step_is_left_out_and_training_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        steps(FiniteLoss(), a_trainer(tmp_path, scaler=object()), "cuda", [1.0, float("inf"), 1.0, 1.0, 1.0, 1.0])
    assert [record.getMessage() for record in caplog.records] == [
        "Step 2: the loss is inf in half precision, so the step was skipped."
    ]
