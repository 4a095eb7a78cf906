"""python -m simcse_lit.train: compose `conf/train.yaml`, build encoder, data and module, train, score and export.

Torch is imported inside `train`, once the configuration has been found right, so that mistakes are answered at once.
"""

import logging
import signal
import sys
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from simcse_lit.cli.cli import run
from simcse_lit.config.checks.train import validate
from simcse_lit.config.checks.views import views_are_alike
from simcse_lit.config.network import training_needs_hub, use_cache_when_unreachable
from simcse_lit.config.resume import checkpoint_to_resume, with_earlier_overrides
from simcse_lit.config.schema import TrainConfig
from simcse_lit.errors import UserError
from simcse_lit.launch import handover, ranks
from simcse_lit.scores import Scores, by_task, dev_score, read_scores, write_scores

if TYPE_CHECKING:
    from pathlib import Path

    import pytorch_lightning as pl
    from pytorch_lightning.loggers import Logger

    from simcse_lit.data.datamodule import SimCSEDataModule
    from simcse_lit.training.module import SimCSEModule

log = logging.getLogger("simcse_lit.train")  # with python -m, __name__ is another


def main(composed: DictConfig) -> float:
    """Train what a composed configuration says; returns the best score on the development set, for sweepers."""
    config = validate(composed)
    use_cache_when_unreachable(training_needs_hub(config))
    devices, num_nodes = config.trainer.devices, config.trainer.num_nodes
    if devices * num_nodes > 1 and ranks.rank() is None:
        return float(ranks.start_ranks("simcse_lit.train", devices, num_nodes))
    composed.run_dir = ranks.agree_on_run_dir(config.run_dir)
    return train(validate(composed))


def build(config: TrainConfig) -> "tuple[SimCSEModule, SimCSEDataModule]":
    """Everything that is trained and everything that it is trained on.

    Raises:
        UserError: the model, the text or the test sets cannot be used.
    """
    import torch
    from hydra.utils import instantiate

    from simcse_lit.data.datamodule import SimCSEDataModule
    from simcse_lit.encoder.adapter import add_adapter
    from simcse_lit.encoder.backbone import check_fit, load_backbone
    from simcse_lit.encoder.encoder import SentenceEncoder, second_encoder
    from simcse_lit.evaluation.suite import load_suite
    from simcse_lit.training.chunking import chunking
    from simcse_lit.training.module import SimCSEModule
    from simcse_lit.views.augmentation import augmenter
    from simcse_lit.views.replacement import load_replacement

    optimizer = instantiate(
        {
            "_target_": config.optimizer._target_,
            "_partial_": True,
            "lr": config.optimizer.lr,
            "weight_decay": config.optimizer.weight_decay,
            **config.optimizer.extra,
        }
    )
    try:
        optimizer([torch.nn.Parameter(torch.zeros(1))])  # a wrong argument shows now, not after the corpus is tokenised
    except (TypeError, ValueError) as error:
        raise UserError(f"optimizer: {config.optimizer._target_}: {error}.") from error
    suite = load_suite(config)
    backbone, tokenizer = load_backbone(config.model, mlm=config.loss.mlm_weight > 0)
    check_fit(config, backbone, tokenizer)
    replacement = load_replacement(config, tokenizer)
    encoder = SentenceEncoder(backbone, config.pooler.name, config.projection.name)
    add_adapter(encoder.backbone, config.adapter)
    if views_are_alike(config) and not encoder.has_dropout:
        log.warning(
            "Every dropout is 0, so the two views of a sentence are the same vector and training has\n"
            "no noise to learn from (Table 3, p = 0). Set model.dropout=0.1, or adapter.dropout."
        )
    budget, augment = config.evaluation.token_budget, augmenter(config.augmentation)
    data = SimCSEDataModule(config.data, tokenizer, suite, token_budget=budget, seed=config.seed, augment=augment)
    second = second_encoder(encoder) if config.loss.encoders == 2 else None
    for each in (encoder, second):
        if each is not None:
            each.compile_backbone(config.trainer.compile)
    on_cpu = config.trainer.accelerator == "cpu" or not torch.cuda.is_available()
    chunks = chunking(config.trainer, encoder, on_cpu=on_cpu)
    module = SimCSEModule(
        encoder,
        tokenizer,
        suite,
        analyses=[instantiate(analysis) for analysis in config.analyses.values()],
        model=config.model,
        adapter=config.adapter,
        loss=config.loss,
        optimizer=optimizer,
        schedule=config.optimizer,
        length_chunks=chunks == "always",
        packed=chunks == "packed",
        chunk_overhead=config.trainer.chunk_overhead,
        micro_batch_size=config.trainer.micro_batch_size,
        seed=config.seed,
        second_encoder=second,
        replacement=replacement,
    )
    return module, data


def train(config: TrainConfig) -> float:
    """Train, score the best weights, and leave everything in the run folder.

    Returns:
        The best score on the development set, Spearman x 100.

    Raises:
        UserError: the model or the text cannot be used, training diverged, or `resume` names another run.
    """
    from pathlib import Path

    import pytorch_lightning as pl
    import torch
    from hydra.utils import instantiate
    from omegaconf import OmegaConf
    from pytorch_lightning.loggers import CSVLogger
    from pytorch_lightning.utilities.exceptions import SIGTERMException

    from simcse_lit.reporting.run import console, run_folder
    from simcse_lit.training.trainer import build_trainer

    console.quiet_libraries()
    run_dir = run_folder.make_run_folder(Path(config.run_dir))
    checkpoint = checkpoint_to_resume(config)
    finished = read_scores(run_dir).get("after") if checkpoint else None
    if finished:
        dev, score = dev_score(finished)
        log.info("resume=%s: the run in %s is finished: %s %.2f.", config.resume, run_dir, dev, score)
        return score
    torch.set_float32_matmul_precision(config.trainer.float32_matmul_precision)
    pl.seed_everything(config.seed, workers=True, verbose=False)
    module, data = build(config)
    loggers = [instantiate(logger) for logger in config.logger.values() if logger] if not ranks.rank() else []
    trainer = build_trainer(config, loggers)
    trainer.strategy.setup_environment()  # the processes of a run meet here
    if trainer.is_global_zero:
        run_folder.write_provenance(run_dir, config, trainer.strategy.root_device)
    for logger in loggers:
        if isinstance(logger, CSVLogger):  # config.yaml is beside its metrics.csv
            run_folder.keep_earlier_metrics(logger, steps_of(checkpoint))
        else:
            logger.log_hyperparams(OmegaConf.to_container(OmegaConf.structured(config), resolve=True))
    try:
        module, scores = fit_and_score(config, trainer, module, data, checkpoint)
        if trainer.is_global_zero:
            finish(config, module, data, scores)
            write_scores(run_dir, scores)
            close_loggers(loggers, config, scores)
    except BaseException as error:
        close_loggers(loggers, config, None)
        if isinstance(error, SIGTERMException):
            log.warning("Stopped by SIGTERM after step %d. Continue with: resume=%s", trainer.global_step, run_dir)
            sys.exit(128 + signal.SIGTERM)  # by which a scheduler knows a run that it may start again
        raise
    return dev_score(scores["after"])[1]


def steps_of(checkpoint: "Path | None") -> int:
    """Steps that were done when a checkpoint was written; 0 without one."""
    import torch

    return int(torch.load(checkpoint, map_location="cpu", weights_only=True)["global_step"]) if checkpoint else 0


def fit_and_score(
    config: TrainConfig,
    trainer: "pl.Trainer",
    module: "SimCSEModule",
    data: "SimCSEDataModule",
    checkpoint: "Path | None",
) -> "tuple[SimCSEModule, Scores]":
    """Score the untrained encoder, train it, and score its best weights.

    Args:
        config: the configuration.
        trainer: Lightning's.
        module: what is trained.
        data: on what.
        checkpoint: where to continue from, or None; the untrained encoder was scored by the run's first part then.

    Returns:
        The module with the best weights, and the scores.

    Raises:
        UserError: the text cannot be used, or training diverged.
    """
    from copy import deepcopy
    from pathlib import Path

    import torch
    from pytorch_lightning.strategies import FSDPStrategy

    from simcse_lit.reporting.run import console

    if trainer.local_rank == 0:
        data.prepare_corpus()
    trainer.strategy.barrier()  # the other processes find the corpus in the cache
    examples = None if config.data.streaming else len(data.corpus)
    if config.data.drop_last and examples is not None and examples < config.data.batch_size:
        raise UserError(
            f"data.drop_last: the {examples} examples are less than one batch of {config.data.batch_size}.\n"
            "Lower data.batch_size, or set data.drop_last=false."
        )
    console.announce(config, module, examples, trainer.strategy.root_device)
    scores = read_scores(Path(config.run_dir)) if checkpoint else {}
    if checkpoint:
        data.done = steps_of(checkpoint)
        log.info("Resume   from step %d of the run in %s", data.done, config.run_dir)
        if examples and data.done >= config.trainer.max_epochs * len(data.train_dataloader()) > 0:
            trainer.fit_loop.epoch_loop.max_steps = data.done  # stopped behind its last step: Lightning would take one more
    elif config.evaluation.before:
        module.untrained = True
        dev = trainer.validate(module, data, verbose=False)[0]["val/sts"]
        scores["before"] = {"dev": {data.suite.dev.name: dev}, "test": {}}
        if data.suite.test:
            trainer.test(module, data, verbose=False)
            scores["before"]["test"] = module.test_scores
        module.untrained = False
        console.show_scores({"before": scores["before"]}, data.suite)
        if trainer.is_global_zero:
            write_scores(Path(config.run_dir), scores)
    trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)

    best = getattr(trainer.checkpoint_callback, "best_model_score", None)
    path = getattr(trainer.checkpoint_callback, "best_model_path", "")
    sharded = isinstance(trainer.strategy, FSDPStrategy)
    if sharded:  # what was trained is in pieces
        module = build(config)[0]
    if path:
        module.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["state_dict"])
    if best is None:  # no checkpoint was kept: these are the last weights
        best = trainer.validate(module, data, verbose=False)[0]["val/sts"]
    scores["after"] = {"dev": {data.suite.dev.name: float(best)}, "test": {}}
    if data.suite.test:
        scored = deepcopy(module) if sharded else module  # scoring would take it to pieces again
        trainer.test(scored, data, verbose=False)
        scores["after"]["test"] = scored.test_scores
    return module, scores


def close_loggers(loggers: "list[Logger]", config: TrainConfig, scores: Scores | None) -> None:
    """Give W&B what a run that went well leaves, and close its run, so that a later job of the same process does not find it
    open. `scores` is None for a run that failed.
    """
    from pathlib import Path

    from omegaconf import OmegaConf
    from pytorch_lightning.loggers import WandbLogger

    for logger in loggers:
        if isinstance(logger, WandbLogger):
            from simcse_lit.reporting.run import wandb
            from simcse_lit.text.sources import open_sources

            if scores is not None:
                files = (
                    [] if config.data.streaming else open_sources(config.data.train_file, config.data.revision, key="data")
                )
                resolved: Any = OmegaConf.to_container(OmegaConf.structured(config), resolve=True)
                wandb.log_end(logger, by_task(scores), Path(config.run_dir), resolved, [file.path for file in files])
            wandb.finish(logger, failed=scores is None)


def finish(
    config: TrainConfig,
    module: "SimCSEModule",
    data: "SimCSEDataModule",
    scores: Scores,
) -> None:
    """Export the encoder, draw the training curve, and say what came of the run and where everything is."""
    from pathlib import Path

    from simcse_lit.formats.export import Provenance, export
    from simcse_lit.reporting.run import console, curves, figures

    run_dir, dev = Path(config.run_dir), data.suite.dev.name
    provenance = Provenance(
        base_model=config.model.name_or_path,
        loss=config.loss.name,
        settings=console.settings(config),
        scores=scores,
        families={task.name: task.family for task in (data.suite.dev, *data.suite.test)},
        scored_on=data.suite.origin,
    )
    encoder = module.encoder.eval()
    export(encoder, data.tokenizer, run_dir / "export", max_length=config.data.max_length, provenance=provenance)
    metrics = run_dir / "metrics.csv"
    history = curves.read_metrics(metrics) if metrics.is_file() else {}
    if history:
        curves.training_curve(history, dev, dev_score(scores["after"])[1], run_dir / "training_curve.png")
    ways = [[value for _, value in history.get(f"val/{name}", [])] for name in ("alignment", "uniformity", "sts")]
    if all(len(way) == len(ways[2]) > 1 for way in ways):
        steps = [step for step, _ in history["val/sts"]]
        figures.draw_trajectory(steps, ways[0], ways[1], ways[2], run_dir / "alignment_uniformity.png")
    console.show_end(config, scores, data.suite, [score for _, score in history.get("val/sts", [])])
    if config.demo.corpus and config.demo.queries:
        console.show_nearest(config.demo.queries, config.demo.corpus, encoder, data.tokenizer)
    console.show_files(run_dir, config.demo.next)


if __name__ == "__main__":
    if not handover.awaited():
        sys.argv[1:] = with_earlier_overrides(sys.argv[1:])
    run(main, "train")
