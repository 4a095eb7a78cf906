"""What each verb does with its composed configuration: checks it, looks for the Hub, then imports torch and works."""

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
    """How a verb's configuration is checked, and what it may ask the Hub for.

    Args:
        check: turns the composed configuration into typed objects, or raises UserError.
        models: keys that name encoders, which the Hub may have to be asked for.
        files: keys that name text, which it may have to be asked for.
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
    """The function that does a verb's work with a composed configuration, and returns what a sweeper is given."""
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
    """Whether a verb would ask the Hub for something that this checked configuration names."""
    keys = KEYS[verb]
    models, files = ([name for key in names for name in _names(config, key)] for names in (keys.models, keys.files))
    return needs_hub(models, files, getattr(config, "senteval", None))


def _names(config: Any, key: str) -> Iterator[str]:
    """What a key holds: no name, one, or a list of them."""
    for part in key.split("."):
        config = getattr(config, part)
    if config is not None:
        yield from config if isinstance(config, list) else [config]
