"""A contract with Lightning: the private names that training uses are there and do what they are used for."""

from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities.exceptions import SIGTERMException
from torch import Tensor, nn
from torch.utils.data import DataLoader

from simcse_lit.training.lightning_private import deals_out_batches, end_after, leave_after_this_step


class Small(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.ended: list[int] = []

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return (self.weight * batch).sum()

    def on_train_batch_end(self, *_: Any) -> None:
        self.ended.append(self.global_step)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(*callbacks: Callback, steps: int = 9) -> pl.Trainer:
    return pl.Trainer(
        max_steps=steps,
        accelerator="cpu",
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def batches() -> DataLoader[Any]:
    return DataLoader(torch.ones(20, 1))  # type: ignore[arg-type]


def test_the_loop_is_left_at_the_end_of_the_step_with_the_modules_hooks_done() -> None:
    class Stop(Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            if trainer.global_step == 3:
                leave_after_this_step(trainer, True)

    module = Small()
    with pytest.raises(SIGTERMException):
        trainer(Stop()).fit(module, batches())
    assert module.ended == [1, 2, 3], "an exception raised by the callback would have left out the last"


def test_the_request_to_leave_can_be_taken_back() -> None:
    class Waver(Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            leave_after_this_step(trainer, True)
            leave_after_this_step(trainer, False)

    module = Small()
    trainer(Waver(), steps=4).fit(module, batches())
    assert module.ended == [1, 2, 3, 4]


@pytest.mark.parametrize("steps", [0, 2])
def test_a_fit_takes_no_step_beyond_the_one_that_it_is_told(steps: int) -> None:
    module, built = Small(), trainer()
    end_after(built, steps)
    built.fit(module, batches())
    assert module.ended == list(range(1, steps + 1))


def test_whether_lightning_would_deal_out_batches_is_known_of_a_trainer() -> None:
    assert deals_out_batches(trainer())
    assert not deals_out_batches(pl.Trainer(accelerator="cpu", use_distributed_sampler=False, logger=False))
