"""A run from Python: the configuration of a command line, and what it trains for a Trainer of yours.

    config = compose("train", ["model=minilm-l3", "data=file", "data.train_file=sentences.txt"])
    module, data = build(config)
    pl.Trainer(max_steps=100, gradient_clip_val=1.0).fit(module, data)
    save_export("my-encoder", config, module, data)

Your Trainer decides devices, precision, steps, clipping, callbacks, loggers and checkpoints; the keys of `trainer` that say
how a step is computed (`micro_batch_size`, `length_chunks`, `compile`) are the module's. `training.trainer.build_trainer`
makes the Trainer of `simcse-lit train`, and `simcse_lit.train.main(config)` is the whole command.
"""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import torch
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf, open_dict
from pytorch_lightning.utilities.seed import isolate_rng

from simcse_lit.cli.composed import make_ready
from simcse_lit.cli.tasks import KEYS, asks_hub
from simcse_lit.config import CONF_DIR
from simcse_lit.config.as_typed import for_hydra
from simcse_lit.config.checks.rules import in_folder
from simcse_lit.config.hydra_words import explain
from simcse_lit.config.network import use_cache_when_unreachable
from simcse_lit.config.replay import earlier_words
from simcse_lit.config.schema import TrainConfig
from simcse_lit.data.datamodule import SimCSEDataModule
from simcse_lit.errors import UserError, did_you_mean
from simcse_lit.formats.export import export
from simcse_lit.formats.masked_lm import export_masked_lm
from simcse_lit.formats.model_card import Provenance
from simcse_lit.reporting.run.console import settings
from simcse_lit.scores import Scores
from simcse_lit.training.build import Built
from simcse_lit.training.build import build as build_run
from simcse_lit.training.module import SimCSEModule


def compose(verb: str, overrides: Sequence[str] = (), *, config_dir: str | Path | None = None) -> Any:
    """Compose and check the configuration of a command; nothing is run and nothing is written.

    Args:
        verb: the command: `train`, `evaluate`, `encode`, ...
        overrides: what stands behind the verb on the command line, a word an entry: `["loss=sup", "seed=1"]`.
        config_dir: a folder with configuration files of yours, the command line's `--config-dir`.

    Returns:
        The typed configuration, resolved: `TrainConfig` for `train` (`config/schema.py`). Its `run_dir` is `hydra.run.dir`.

    Raises:
        UserError: there is no such verb, or what the command line would refuse, with the same message.
    """
    if verb not in KEYS:
        raise UserError(f"compose: {verb}: there is no such verb.{did_you_mean(verb, KEYS)} Verbs: {', '.join(KEYS)}.")
    if isinstance(overrides, str):
        raise UserError(f"compose: the overrides are a list of words: compose({verb!r}, {overrides.split()!r})")
    if options := [word for word in overrides if word.startswith("-")]:
        raise UserError(
            f"compose: {options[0]}: takes overrides alone, key=value. A folder of configuration files: config_dir=FOLDER;\n"
            "a sweep: compose once for each of its runs."
        )
    with _own_hydra():
        try:
            return KEYS[verb].check(_composed(verb, list(overrides), config_dir))
        except UserError:
            raise
        except Exception as error:
            message = explain(error, verb)
            if message is None:
                raise
            raise UserError(message) from error


@contextmanager
def _own_hydra() -> Iterator[None]:
    """Within the block Hydra is not initialised; behind it, it is as it was, which a program under @hydra.main relies on."""
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = before


def _composed(verb: str, overrides: list[str], config_dir: str | Path | None) -> DictConfig:
    make_ready()
    folders = [] if config_dir is None else [Path(config_dir).expanduser().absolute()]
    if missing := [folder for folder in folders if not folder.is_dir()]:
        raise UserError(f"config_dir={missing[0]}: there is no such folder.")
    earlier = earlier_words(overrides) if verb == "train" else []
    words = for_hydra(verb, [*(f"--config-dir={folder}" for folder in folders), *overrides], earlier)
    named = [word.removeprefix("--config-dir=") for word in words if word.startswith("--config-dir=")]
    search = [f"hydra.searchpath=[{','.join(map(_location, named))}]"] if named else []
    words = [word for word in words if not word.startswith("-")]
    with hydra.initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        composed = hydra.compose(verb, [*words, *search], return_hydra_config=True)
    if "run_dir" in composed:
        return in_folder(composed, Path(OmegaConf.select(composed, "hydra.run.dir")))
    with open_dict(composed):
        composed.pop("hydra")
    return composed


def _location(folder: str) -> str:
    escaped = f"file://{folder}".replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def build(config: TrainConfig) -> Built:
    """Build what a configuration trains, and the text it trains on: `module, data = build(config)`.

    The initial weights depend on `config.seed` alone, as do batches, dropout and augmentations; the random state of your
    program is left as it was. A term of yours that draws from `random` or NumPy is seeded by your `pl.seed_everything`.

    Args:
        config: of `compose("train", ...)`.

    Returns:
        The LightningModule and the LightningDataModule. Nothing is tokenised before training starts.

    Raises:
        UserError: the model, the optimiser, the text or the test sets cannot be used.
    """
    if not isinstance(config, TrainConfig):
        raise UserError(f"build: needs the configuration of train, and this is a {type(config).__name__}.")
    with isolate_rng(), use_cache_when_unreachable(asks_hub("train", config)):
        random.seed(config.seed)
        np.random.seed(config.seed)  # a part of the user's own may draw from it, when it is made
        torch.manual_seed(config.seed)
        return build_run(config)


def save_export(
    folder: str | Path, config: TrainConfig, module: SimCSEModule, data: SimCSEDataModule, scores: Scores | None = None
) -> None:
    """Write the trained encoder as a Hugging Face folder, the one that `simcse-lit train` writes.

    `SimCSE(folder)`, `load_export`, `AutoModel` and the `checkpoint=` of every command read it. After `loss=mlm` it is a
    masked language model, for `AutoModelForMaskedLM` and `model.name_or_path`. An adapter is merged into the weights, so
    save when training has ended.

    Args:
        folder: where to write; an older export there is replaced.
        config: of the run, for the model card.
        module: with the weights to save: the last ones, unless you load others.
        data: of the run.
        scores: for the model card: "before" and "after" to "dev" and "test" to task to score.

    Raises:
        UserError: another process is writing the folder.
    """
    suite = module.scorer.suite
    provenance = Provenance(
        base_model=config.model.name_or_path,
        loss=config.loss.name,
        settings=settings(config),
        scores=scores or {},
        families=suite.families,
        scored_on=suite.origin,
    )
    target, length = Path(folder).expanduser(), config.data.max_length
    if module.trains_language_model:
        export_masked_lm(module.encoder, data.tokenizer, target, max_length=length, provenance=provenance)
    else:
        export(module.encoder, data.tokenizer, target, max_length=length, provenance=provenance, prompts=data.prompts)
