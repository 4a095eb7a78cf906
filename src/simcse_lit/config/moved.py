"""Maps the module paths of version 0.1 to the present ones, for configurations, commands and run folders that name them."""

from collections.abc import Iterator, Mapping
from typing import Any

from simcse_lit.errors import UserError

# The longest matching prefix counts. Names from a module that was split have their own entries.
MOVED = {
    "simcse_lit.config.cli": "simcse_lit.cli.cli",
    "simcse_lit.config.evaluation": "simcse_lit.config.checks.evaluate",
    "simcse_lit.config.help": "simcse_lit.cli.help",
    "simcse_lit.config.index": "simcse_lit.config.checks.index",
    "simcse_lit.config.interop": "simcse_lit.config.checks.export",
    "simcse_lit.config.use": "simcse_lit.config.checks.encode",
    "simcse_lit.config.validation": "simcse_lit.config.checks.train",
    "simcse_lit.config.views": "simcse_lit.config.checks.positives",
    "simcse_lit.data.augmentation": "simcse_lit.views.augmentation",
    "simcse_lit.data.collation.Corpus": "simcse_lit.text.corpus.Corpus",
    "simcse_lit.data.documents": "simcse_lit.views.documents",
    "simcse_lit.data.hub": "simcse_lit.text.hub",
    "simcse_lit.data.nli": "simcse_lit.text.nli",
    "simcse_lit.data.order.EpochOrder": "simcse_lit.text.corpus.EpochOrder",
    "simcse_lit.data.sources": "simcse_lit.text.sources",
    "simcse_lit.inference.approximate": "simcse_lit.retrieval.approximate",
    "simcse_lit.inference.device": "simcse_lit.encoder.device",
    "simcse_lit.inference.embedding_cache": "simcse_lit.encoding.embedding_cache",
    "simcse_lit.inference.encoding": "simcse_lit.encoding.passes",
    "simcse_lit.inference.export": "simcse_lit.formats.export",
    "simcse_lit.inference.files": "simcse_lit.encoding.input",
    "simcse_lit.inference.index": "simcse_lit.retrieval.index",
    "simcse_lit.inference.index_encoder": "simcse_lit.retrieval.index_encoder",
    "simcse_lit.inference.index_folder": "simcse_lit.retrieval.index_folder",
    "simcse_lit.inference.interop": "simcse_lit.formats.sentence_transformers",
    "simcse_lit.inference.loading": "simcse_lit.formats.loading",
    "simcse_lit.inference.memory": "simcse_lit.encoding.memory",
    "simcse_lit.inference.model_card": "simcse_lit.formats.model_card",
    "simcse_lit.inference.onnx": "simcse_lit.formats.onnx",
    "simcse_lit.inference.paper_checkpoint": "simcse_lit.formats.paper_checkpoint",
    "simcse_lit.inference.pool": "simcse_lit.encoding.pool",
    "simcse_lit.inference.push": "simcse_lit.formats.push",
    "simcse_lit.inference.segments": "simcse_lit.retrieval.segments",
    "simcse_lit.inference.server": "simcse_lit.server",
    "simcse_lit.inference.simcse": "simcse_lit.simcse",
    "simcse_lit.inference.vector_file": "simcse_lit.encoding.output",
    "simcse_lit.inference.vectors": "simcse_lit.encoding.texts",
    "simcse_lit.model.adapter": "simcse_lit.encoder.adapter",
    "simcse_lit.model.callbacks": "simcse_lit.training.callbacks",
    "simcse_lit.model.checkpoints": "simcse_lit.training.checkpoints",
    "simcse_lit.model.chunking": "simcse_lit.training.chunking",
    "simcse_lit.model.encoder": "simcse_lit.encoder.encoder",
    "simcse_lit.model.first_token": "simcse_lit.encoder.first_token",
    "simcse_lit.model.loading": "simcse_lit.encoder.backbone",
    "simcse_lit.model.module": "simcse_lit.training.module",
    "simcse_lit.model.packing": "simcse_lit.encoder.packing",
    "simcse_lit.model.pooling": "simcse_lit.encoder.pooling",
    "simcse_lit.model.replacement": "simcse_lit.views.replacement",
    "simcse_lit.model.trainer": "simcse_lit.training.trainer",
    "simcse_lit.objective.gather.mean_over_ranks": "simcse_lit.distributed.mean_over_ranks",
    "simcse_lit.objective.gather.min_over_ranks": "simcse_lit.distributed.min_over_ranks",
    "simcse_lit.objective.gather.sum_over_ranks": "simcse_lit.distributed.sum_over_ranks",
    "simcse_lit.objective.gather.world": "simcse_lit.distributed.world",
    "simcse_lit.objective.gradient_cache": "simcse_lit.training.gradient_cache",
    "simcse_lit.reporting.comparison": "simcse_lit.reporting.sweep.comparison",
    "simcse_lit.reporting.console": "simcse_lit.reporting.run.console",
    "simcse_lit.reporting.curves": "simcse_lit.reporting.run.curves",
    "simcse_lit.reporting.evaluation": "simcse_lit.reporting.run.evaluation_folder",
    "simcse_lit.reporting.figures": "simcse_lit.reporting.run.figures",
    "simcse_lit.reporting.page": "simcse_lit.reporting.sweep.page",
    "simcse_lit.reporting.paper": "simcse_lit.reporting.sweep.paper",
    "simcse_lit.reporting.run_folder": "simcse_lit.reporting.run.run_folder",
    "simcse_lit.reporting.runs": "simcse_lit.reporting.sweep.runs",
    "simcse_lit.reporting.sweep_figures": "simcse_lit.reporting.sweep.figures",
    "simcse_lit.reporting.sweep_tables": "simcse_lit.reporting.sweep.tables",
    "simcse_lit.reporting.tables": "simcse_lit.tables",
    "simcse_lit.reporting.wandb": "simcse_lit.reporting.run.wandb",
}


def path_now(path: str) -> str:
    """Return the present dotted path of an old one; any other path is returned unchanged."""
    parts = path.split(".")
    for end in range(len(parts), 0, -1):
        if new := MOVED.get(".".join(parts[:end])):
            return ".".join([new, *parts[end:]])
    return path


def targets_now(node: Any) -> Any:
    """Return a configuration (plain containers) with the present path in every `_target_`."""
    if isinstance(node, Mapping):
        return {
            key: path_now(value) if key == "_target_" and isinstance(value, str) else targets_now(value)
            for key, value in node.items()
        }
    return [targets_now(value) for value in node] if isinstance(node, list) else node


def refuse_old_targets(config: Any) -> None:
    """Refuse a configuration (plain containers) that names an old path.

    Raises:
        UserError: a `_target_` has moved; the message gives the present path.
    """
    for key, value in targets(config, ""):
        if (new := path_now(value)) != value:
            raise UserError(f"{key}={value}: has moved. Write {key}={new}")


def targets(node: Any, prefix: str) -> Iterator[tuple[str, str]]:
    """Yield (dotted key behind `prefix`, value) of every `_target_` in a configuration of plain containers."""
    items = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        if key == "_target_" and isinstance(value, str):
            yield f"{prefix}{key}", value
        else:
            yield from targets(value, f"{prefix}{key}.")
