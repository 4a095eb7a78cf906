"""Messages of a training run on the terminal, within 80 columns. `evaluation_folder.py` has those of `evaluate`."""

import logging
import shlex
import shutil
import sys
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from simcse_lit.config.resolvers import local_path
from simcse_lit.config.roles import views_of
from simcse_lit.config.schema import TrainConfig
from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.encoding.passes import encode, nearest
from simcse_lit.evaluation.suite import Suite
from simcse_lit.families import PAPER
from simcse_lit.reporting.keys import SETTINGS, other_curves
from simcse_lit.reporting.read_corpus import described
from simcse_lit.reporting.run.run_folder import device_name
from simcse_lit.scores import Scores, dev_score
from simcse_lit.tables import by_family, score_table, shortened, sparkline
from simcse_lit.text.lines import lines_of
from simcse_lit.text.prompts import Prompts
from simcse_lit.text.template import Template

if TYPE_CHECKING:
    from simcse_lit.training.module import SimCSEModule

log = logging.getLogger(__name__)

CURVE = 32  # at most so many characters in a curve


def quiet_libraries() -> None:
    """Silence tips and load reports of Lightning and transformers.

    The warnings below are silenced too: they are about things that simcse-lit does on purpose.
    """
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*You have overridden `on_before_batch_transfer` in `LightningModule`.*",  # it plans the chunks of a batch
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*smaller than the logging interval.*",
        ".*isinstance.treespec, LeafSpec.*",  # Lightning's own use of torch
        ".*Experiment logs directory .* exists and is not empty.*",
        ".*your dataloader is not resumable.*",  # it is resumable: data/order.py
        ".*It is recommended to use `self.log.*sync_dist=True.*",  # every process computes the same scores
        "`broadcast_buffers` is deprecated.*",  # older versions of torch lack its successor
    ):
        warnings.filterwarnings("ignore", message=message)


def settings(config: TrainConfig) -> dict[str, Any]:
    """Return the configuration values that describe a run, by the keys of `SETTINGS`."""
    whole = asdict(config)
    return {key: reduce(getitem, key.split("."), whole) for key in SETTINGS}


def announce(config: TrainConfig, module: "SimCSEModule", read: Mapping[str, Any] | None, device: torch.device) -> None:
    """Log what will be trained, and on which data.

    Args:
        config: of the run.
        module: the module that is trained.
        read: counts of the corpus (`read_corpus.py`); None for a stream.
        device: the device that trains.
    """
    corpus = "a stream" if read is None else f"{read['examples']:,} examples"
    noted = "; ".join(described(read, config.data.batch_size)) if read else ""
    million = sum(parameter.numel() for parameter in module.encoder.parameters()) / 1e6
    trained = sum(parameter.numel() for parameter in module.encoder.parameters() if parameter.requires_grad) / 1e6
    layers = module.encoder.backbone.config.num_hidden_layers
    epochs = config.trainer.max_epochs
    limits = [f"{epochs} epoch{'s' * (epochs > 1)}"] if epochs > 0 and read else []
    limits += [f"{config.trainer.max_steps} steps"] if config.trainer.max_steps > 0 else []
    steps = " or ".join(limits)
    processes = config.trainer.devices * config.trainer.num_nodes
    schedule = config.optimizer.schedule
    views = views_of(config.data)
    read_by = f"pooler {config.pooler['name']}, projection {config.projection['name']}"
    terms = module.objective.terms
    told = [f"temperature {config.loss.temperature:g}"] if "contrastive" in terms else []
    told += [f"terms: {', '.join(terms)}"] if set(terms) != {"contrastive"} else []
    loss = ", ".join(told)
    if module.trains_language_model:
        read_by, loss = "and its language-modelling head", f"{config.loss.mlm_probability:.0%} of the tokens masked"
    log.info(
        "Encoder  %s, %d layers, %.1fM parameters%s\n"
        "         %s\n"
        "Loss     %s, %s, %d view%s\n"
        "Data     %s, batch %d, length %d%s\n"
        "Steps    lr %g %s, %s\n"
        "Device   %s (%s), %s, seed %d",
        config.model.name_or_path,
        layers,
        million,
        f", {trained:.2f}M of them trained" if trained < million else "",
        read_by,
        config.loss.name,
        loss,
        len(views),
        "s" * (len(views) > 1),
        corpus,
        config.data.batch_size,
        config.data.max_length,
        "".join(f"\n         {line}" for line in textwrap.wrap(noted, 70)),
        config.optimizer.lr,
        schedule if isinstance(schedule, str) else schedule["_target_"].rpartition(".")[2],
        steps,
        device.type if processes == 1 else f"{processes} x {device.type}",
        device_name(device),
        config.trainer.precision,
        config.seed,
    )


def show_scores(scores: Scores, suite: Suite) -> None:
    """Log a table of test scores for each family of tasks, headed by its metric, then the development score."""
    tests = [(stage, row["test"]) for stage, row in scores.items()]
    for family, rows in by_family(tests, suite.families).items():
        origin = f" on {suite.origin}" if family in PAPER else ""
        log.info("\n%s%s\n%s", family.heading, origin, score_table(rows, suite.families))
    for name, family in suite.dev_families.items():
        dev = "   ".join(f"{stage} {row['dev'][name]:.2f}" for stage, row in scores.items())
        log.info("\n%s, %s: %s", name, family.metric, dev)


def show_end(config: TrainConfig, scores: Scores, suite: Suite, history: Mapping[str, Sequence[tuple[int, float]]]) -> None:
    """Log the final tables, the curve of the development score, and the curves of your own terms and analyses.

    Args:
        config: of the run.
        scores: of the run.
        suite: the tasks of the run.
        history: (step, value) of each logged number, by name, from `read_metrics`.
    """
    show_scores(scores, suite)
    dev = [value for _, value in history.get(suite.logged[suite.chosen_on], ())]
    if len(dev) > 1:
        best = dev_score(scores["after"])[1]
        log.info("Curve    %.2f %s %.2f, best %.2f", dev[0], sparkline(dev), dev[-1], best)
    own = [name for name in history if name.startswith(("train/loss/", "val/")) and len(history[name]) > 1]
    for title, labels in other_curves(own).items():
        log.info("%s", title)
        for name, label in labels.items():
            values = [value for _, value in history[name]]
            step = -(-len(values) // CURVE)  # ceil
            log.info("  %-22s%.4g %s %.4g", shortened(label, 20), values[0], sparkline(values[::step]), values[-1])


def show_nearest(
    queries: Sequence[str],
    corpus: str,
    encoder: SentenceEncoder,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Prompts,
    k: int = 3,
) -> None:
    """Log each query with the k most similar sentences of a text file.

    Args:
        queries: sentences to search for.
        corpus: path of a text file with a sentence on each line.
        encoder: encodes both.
        tokenizer: of the encoder.
        prompts: prompts of the encoder, for queries and documents.
        k: number of sentences for each query.

    Raises:
        UserError: the corpus cannot be read.
    """
    read = lines_of(local_path(corpus, "demo.corpus"), f"demo.corpus: {corpus}")
    sentences = [line.strip() for line in read if line.strip()]

    def vectors(texts: Sequence[str], use: str) -> Tensor:
        text = prompts.of(use)
        return encode(encoder, tokenizer, texts, template=Template(text, tokenizer) if text else None)

    cosines, places = nearest(vectors(queries, "query"), vectors(sentences, "document"), min(k, len(sentences)))
    for query, row, found in zip(queries, cosines.tolist(), places.tolist(), strict=True):
        log.info("\n%s", query)
        for cosine, place in zip(row, found, strict=True):
            text = sentences[place]
            log.info("  %.2f  %s", cosine, text if len(text) <= 71 else f"{text[:68]}...")


def show_files(run_dir: Path, commands: Sequence[str]) -> None:
    """Log the files of the run folder, and commands to run next."""
    log.info("\nRun folder  %s", _from_here(run_dir))
    for name, what in (
        ("export", "the encoder, for transformers"),
        ("training_curve.png", "loss, score and learning rate"),
        ("alignment_uniformity.png", "alignment against uniformity, raw to trained"),
        ("metrics.csv", "every logged number"),
        ("config.yaml", "the resolved configuration"),
    ):
        if (run_dir / name).exists():
            log.info("  %-26s%s", name, what)
    if commands:
        log.info("\nNext")
        activate = Path(sys.prefix) / "bin" / "activate"
        if shutil.which("simcse-lit") is None and activate.is_file():
            log.info("  source %s", shlex.quote(str(_from_here(activate))))
        for command in commands:
            log.info("  %s", command)


def _from_here(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
