"""The stages of a training run: corpus, scores of the untrained encoder, resuming, scores of the best weights."""

import logging
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.strategies import FSDPStrategy

from simcse_lit.config.schema import TrainConfig
from simcse_lit.launch.meeting import together
from simcse_lit.training.build import Built, build
from simcse_lit.training.checkpoints import read_state
from simcse_lit.training.lightning_private import end_after
from simcse_lit.training.module import SimCSEModule

log = logging.getLogger(__name__)

Row = dict[str, dict[str, float]]  # "dev" and "test" to task to score


def prepare_corpus(trainer: pl.Trainer, built: Built) -> dict[str, Any] | None:
    """Tokenise the corpus once on each machine, or find it in the cache.

    Returns:
        What was read (`SimCSEDataModule.summary`); None for a stream.

    Raises:
        UserError: the text cannot be used, does not fill a batch, or has nothing to learn from.
    """
    made = together(lambda: built.data.prepare_corpus() if trainer.local_rank == 0 else None)[0]
    if made is None:
        return None
    if trainer.local_rank:
        built.data.open_corpus(**made)
    return built.data.summary()


def go_on(config: TrainConfig, trainer: pl.Trainer, built: Built, steps: int) -> None:
    """Make training start after `steps` steps, which an earlier part of the run has done."""
    built.data.done = steps
    log.info("Resume   from step %d of the run in %s", steps, config.run_dir)
    if config.data.streaming:
        return
    if steps >= config.trainer.max_epochs * len(built.data.train_dataloader()) > 0:
        end_after(trainer, steps)


def score_untrained(trainer: pl.Trainer, built: Built) -> Row:
    """Score the encoder before training, without its random projection."""
    built.module.untrained = True
    row = _row(trainer, built, built.module, _validated(trainer, built, built.module))
    built.module.untrained = False
    return row


def score_best(config: TrainConfig, trainer: pl.Trainer, built: Built) -> tuple[SimCSEModule, Row]:
    """Load the best weights of a finished training, and score them.

    Returns:
        The module with these weights, and its scores.

    Raises:
        UserError: the weights are missing or damaged.
    """
    module = built.module
    best = getattr(trainer.checkpoint_callback, "best_model_score", None)
    path = getattr(trainer.checkpoint_callback, "best_model_path", "")
    sharded = isinstance(trainer.strategy, FSDPStrategy)
    if sharded:  # the trained module is sharded
        module = build(config, built.suite.chosen_on).module
    if path:
        module.load_state_dict(read_state(Path(path))["state_dict"])

    def scored() -> SimCSEModule:
        return deepcopy(module) if sharded else module  # scoring would shard it again

    if best is None or not best.isfinite():  # no checkpoint was kept, or version 0.1 had no score
        dev = _validated(trainer, built, scored())
    elif len(built.suite.dev_families) > 1:  # the checkpoint callback knows the first score only
        dev = _validated(trainer, built, scored(), log=False)
    else:
        dev = {built.suite.chosen_on: float(best)}
    return module, _row(trainer, built, scored(), dev)


def _validated(trainer: pl.Trainer, built: Built, module: SimCSEModule, *, log: bool = True) -> dict[str, float]:
    """Validate; return the scores by their names in `scores.json`. Without `log`, loggers do not see them."""
    module.logs_validation = log
    found = trainer.validate(module, built.data, verbose=False)
    module.logs_validation = True
    scores = found[0] if log else module.dev_scores
    return {name: scores[logged] for name, logged in built.suite.logged.items()}


def _row(trainer: pl.Trainer, built: Built, module: SimCSEModule, dev: dict[str, float]) -> Row:
    tests: dict[str, float] = {}
    if built.suite.test:
        trainer.test(module, built.data, verbose=False)
        tests = module.test_scores
    return {"dev": dev, "test": tests}
