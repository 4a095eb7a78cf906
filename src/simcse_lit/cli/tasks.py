"""The work of each verb: check the composed configuration, look for the Hub, then import torch and run the verb's `main`."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from omegaconf import DictConfig

from simcse_lit.config.as_typed import escaped
from simcse_lit.config.checks.encode import validate_encode, validate_serve, validate_similarity
from simcse_lit.config.checks.evaluate import validate_evaluation
from simcse_lit.config.checks.export import validate_export, validate_import
from simcse_lit.config.checks.index import validate_index, validate_search
from simcse_lit.config.checks.train import validate
from simcse_lit.config.network import needs_hub, use_cache_when_unreachable
from simcse_lit.launch import environment, ranks


@dataclass(frozen=True)
class Keys:
    """How a verb's configuration is checked, and which keys may need the Hub.

    Args:
        check: turns the composed configuration into typed objects, or raises UserError.
        models: keys that name encoders.
        files: keys that name files of text.
    """

    check: Callable[[DictConfig], Any]
    models: tuple[str, ...] = ("checkpoint",)
    files: tuple[str, ...] = ()


KEYS = {
    "train": Keys(validate, models=("model.name_or_path", "augmentation.model"), files=("data.train_file",)),
    "evaluate": Keys(
        validate_evaluation,
        models=("checkpoint", "compare"),
        files=("postprocess.fit_on",),
    ),
    "encode": Keys(validate_encode, files=("input",)),
    "similarity": Keys(validate_similarity, files=("first", "second")),
    "index": Keys(validate_index, files=("input", "add")),
    "search": Keys(validate_search, files=("input",)),
    "serve": Keys(validate_serve, files=("corpus",)),
    "export": Keys(validate_export),
    "import_checkpoint": Keys(validate_import, models=("tokenizer",)),
}


def task_of(verb: str) -> Callable[[DictConfig], Any]:
    """Return the function that does a verb's work with a composed configuration and returns the value for a sweeper."""
    keys = KEYS[verb]

    def task(composed: DictConfig) -> Any:
        config = keys.check(composed)
        if verb == "train":
            environment.check(config.trainer.devices, config.trainer.num_nodes)
        with use_cache_when_unreachable(asks_hub(verb, config)):
            if verb == "train":
                devices, num_nodes = config.trainer.devices, config.trainer.num_nodes
                if devices * num_nodes > 1 and ranks.rank() is None:
                    return ranks.start_ranks("simcse_lit.train", devices, num_nodes)
                composed.run_dir = escaped(ranks.agree_on_run_dir(config.run_dir))
                config = keys.check(composed)
            return import_module(f"simcse_lit.{verb}").main(config)

    return task


def asks_hub(verb: str, config: Any) -> bool:
    """Return whether a verb would ask the Hub for something that this checked configuration names."""
    keys = KEYS[verb]
    models, files = ([name for key in names for name in _names(config, key)] for names in (keys.models, keys.files))
    beside = config.loss.beside.values() if verb == "train" else ()
    models += [node["checkpoint"] for node in beside if isinstance(node, dict) and node.get("checkpoint")]
    scored = any(getattr(config, key, None) for key in ("tasks", "dev", "analysed"))
    return needs_hub(models, files, config.senteval if scored else None)


def _names(config: Any, key: str) -> Iterator[str]:
    """Yield the names in a key that holds none, one, or a list."""
    for part in key.split("."):
        config = getattr(config, part)
    if config is not None:
        yield from config if isinstance(config, list) else [config]
