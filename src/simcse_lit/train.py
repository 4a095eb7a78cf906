"""Train a SimCSE sentence encoder, score it, and export it.

Examples:
  simcse-lit train                        unsupervised BERT-base, as in the paper
  simcse-lit train model=roberta-large loss=sup
  simcse-lit train experiment=quickstart  no network needed
  simcse-lit train -m loss.temperature=0.01,0.05 seed=1,2  a sweep
"""

if __name__ == "__main__":
    from simcse_lit.cli.cli import run

    run("train")

import logging
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from pytorch_lightning.loggers import CSVLogger, Logger, WandbLogger
from pytorch_lightning.utilities.exceptions import SIGTERMException

from simcse_lit.config.as_typed import literal
from simcse_lit.config.folders import LAST
from simcse_lit.config.resume import checkpoint_to_resume
from simcse_lit.config.schema import TrainConfig
from simcse_lit.from_python import save_export
from simcse_lit.launch import ranks
from simcse_lit.reporting.run import console, curves, figures, run_folder
from simcse_lit.scores import Scores, by_task, dev_score, read_families, read_scores, to_maximise, write_scores
from simcse_lit.training.build import Built, build
from simcse_lit.training.checkpoints import LastCheckpoint, chosen_on, steps_of
from simcse_lit.training.module import SimCSEModule
from simcse_lit.training.stages import go_on, prepare_corpus, score_best, score_untrained
from simcse_lit.training.trainer import build_trainer

log = logging.getLogger(__name__)


def main(config: TrainConfig) -> float:
    """Train, score the best weights, and write everything into the run folder.

    Returns:
        The best score on the development set (Spearman x 100), or minus the loss of held-out text, for sweepers.

    Raises:
        UserError: the model or the text cannot be used, training diverged, or `resume` names another run.
    """
    console.quiet_libraries()
    run_dir = run_folder.make_run_folder(Path(config.run_dir))
    checkpoint = checkpoint_to_resume(config)
    finished = read_scores(run_dir).get("after") if config.resume else None
    if finished:
        log.info("resume=%s: the run in %s is finished: %s %.2f.", config.resume, run_dir, *dev_score(finished))
        return to_maximise(finished, read_families(run_dir))
    if config.resume and not checkpoint:
        log.info("resume=%s: no %s in %s yet, so training starts from the beginning.", config.resume, LAST, run_dir)
    steps = steps_of(checkpoint) if checkpoint else 0
    torch.set_float32_matmul_precision(config.trainer.float32_matmul_precision)
    pl.seed_everything(config.seed, workers=True, verbose=False)
    built = build(config, chosen_on(checkpoint) if checkpoint else None)
    chosen = [logger for logger in config.logger.values() if logger and not ranks.rank()]
    loggers = [
        made for logger in chosen if (made := instantiate(literal(logger))) is not None
    ]  # None if W&B is switched off
    trainer = build_trainer(config, loggers)
    trainer.strategy.setup_environment()  # makes the process group
    if trainer.is_global_zero:
        run_folder.write_provenance(run_dir, config, trainer.strategy.root_device)
    open_loggers(loggers, config, steps)
    try:
        module, scores = fit_and_score(config, trainer, built, checkpoint)
        if trainer.is_global_zero:
            finish(config, module, built, scores)
            write_scores(run_dir, scores, built.suite.families)
            close_loggers(loggers, config, scores, built.data.digests())
    except BaseException as error:
        close_loggers(loggers, config, None, {})
        if isinstance(error, SIGTERMException):
            callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]  # a connector sets it
            by = next((each.asked for each in callbacks if isinstance(each, LastCheckpoint)), None) or signal.SIGTERM
            name = "Ctrl-C" if by == signal.SIGINT else by.name
            way_on = shlex.quote(f"resume={run_dir}")
            log.warning("Stopped by %s after step %d. Resume with: %s", name, trainer.global_step, way_on)
            sys.exit(128 + by)  # tells a scheduler that it may start the run again
        raise
    return to_maximise(scores["after"], built.suite.families)


def fit_and_score(
    config: TrainConfig, trainer: pl.Trainer, built: Built, checkpoint: Path | None
) -> tuple[SimCSEModule, Scores]:
    """Score the untrained encoder, train it, and score its best weights.

    Args:
        config: the configuration.
        trainer: Lightning's trainer.
        built: the module, the data and the tasks.
        checkpoint: checkpoint to resume from, or None. A resumed run does not score the untrained encoder again.

    Returns:
        The module with the best weights, and the scores.

    Raises:
        UserError: the text cannot be used, or training diverged.
    """
    run_dir = Path(config.run_dir)
    read = prepare_corpus(trainer, built)
    console.announce(config, built.module, read, trainer.strategy.root_device)
    if trainer.is_global_zero:
        run_folder.record_corpus(run_dir, read)
    scores = read_scores(run_dir) if checkpoint else {}
    if checkpoint:
        go_on(config, trainer, built, steps_of(checkpoint))
    elif config.evaluation.before:
        scores["before"] = score_untrained(trainer, built)
        console.show_scores(scores, built.suite)
        if trainer.is_global_zero:
            write_scores(run_dir, scores, built.suite.families)
    trainer.fit(built.module, built.data, ckpt_path=checkpoint, weights_only=True)
    module, scores["after"] = score_best(config, trainer, built)
    return module, scores


def open_loggers(loggers: Sequence[Logger], config: TrainConfig, steps: int) -> None:
    """Give loggers the configuration; `metrics.csv` of a resumed run keeps the lines of its first `steps` steps."""
    for logger in loggers:
        if isinstance(logger, CSVLogger):  # needs no hyperparameters: config.yaml is beside metrics.csv
            run_folder.keep_earlier_metrics(logger, steps)
        else:
            logger.log_hyperparams(asdict(config))


def close_loggers(loggers: Sequence[Logger], config: TrainConfig, scores: Scores | None, digests: Mapping[str, str]) -> None:
    """Give loggers the results of a finished run, and close their runs.

    Args:
        loggers: loggers of the run.
        config: configuration of the run.
        scores: scores of the run; None if it failed.
        digests: SHA-256 of the training files, by name.
    """
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            from simcse_lit.reporting.run import wandb  # slow to import, and most runs do not need it

            if scores is not None:
                wandb.log_end(logger, by_task(scores), Path(config.run_dir), asdict(config), digests)
            wandb.finish(logger, failed=scores is None)


def finish(config: TrainConfig, module: SimCSEModule, built: Built, scores: Scores) -> None:
    """Export the encoder, draw the training curve, and print the results and where everything is."""
    run_dir, encoder = Path(config.run_dir), module.encoder.eval()
    save_export(run_dir / "export", config, module, built.data, scores)
    metrics = run_dir / "metrics.csv"
    history = curves.read_metrics(metrics) if metrics.is_file() else {}
    if history:
        curves.training_curve(history, *dev_score(scores["after"]), run_dir / "training_curve.png")
    ways = [[value for _, value in history.get(f"val/{name}", [])] for name in ("alignment", "uniformity", "sts")]
    if all(len(way) == len(ways[2]) > 1 for way in ways):
        steps = [step for step, _ in history["val/sts"]]
        figures.draw_trajectory(steps, ways[0], ways[1], ways[2], run_dir / "alignment_uniformity.png")
    console.show_end(config, scores, built.suite, history)
    if config.demo.corpus and config.demo.queries:
        console.show_nearest(config.demo.queries, config.demo.corpus, encoder, built.data.tokenizer, built.data.prompts)
    console.show_files(run_dir, config.demo.next)
