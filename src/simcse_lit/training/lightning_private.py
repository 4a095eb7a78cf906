"""What training needs of Lightning and Lightning offers no public way to; nothing else of ours touches its private names.

`tests/training/test_lightning_private.py` fails when a new Lightning changes one of them.
"""

import pytorch_lightning as pl


def leave_after_this_step(trainer: pl.Trainer, leave: bool) -> None:
    """Make the loop raise SIGTERMException at the end of the step under way, with metrics logged and counters whole.

    An exception raised by a callback would leave the loop in the middle of a step; `trainer.should_stop` would end the run
    as if it were finished. Lightning also looks at this flag during validation, which must see it lowered.

    Args:
        trainer: of the run.
        leave: False takes the request back.
    """
    trainer._signal_connector.received_sigterm = leave


def end_after(trainer: pl.Trainer, steps: int) -> None:
    """Let `trainer.fit` take no step beyond this one, whatever it was built with.

    Lightning takes one more step when it continues a run that was stopped behind its last step and before its last score.
    """
    trainer.fit_loop.epoch_loop.max_steps = steps
