"""The only uses of Lightning's private names, where it has no public way.

`tests/training/test_lightning_private.py` fails when a new Lightning changes one of them.
"""

import pytorch_lightning as pl


def leave_after_this_step(trainer: pl.Trainer, leave: bool) -> None:
    """Make the training loop raise SIGTERMException after the current step, with metrics logged and counters updated.

    An exception in a callback would leave the loop in the middle of a step, and `trainer.should_stop` would end the run as
    if it were finished. Lightning also checks this flag during validation, so it must be off there.

    Args:
        trainer: the run's trainer.
        leave: False withdraws the request.
    """
    trainer._signal_connector.received_sigterm = leave


def end_after(trainer: pl.Trainer, steps: int) -> None:
    """Make `trainer.fit` stop after this step, whatever the trainer was built with.

    Lightning takes one step too many when it resumes a run that was stopped after its last step but before its last
    validation.
    """
    trainer.fit_loop.epoch_loop.max_steps = steps


def deals_out_batches(trainer: pl.Trainer) -> bool:
    """Whether a trainer would put a sampler of its own into the loaders of several processes."""
    return bool(trainer._accelerator_connector.use_distributed_sampler)
