"""What each verb does with its composed configuration: checks it, looks for the Hub, then imports torch and works."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from omegaconf import DictConfig

from simcse_lit.config.checks.encode import validate_encode, validate_serve, validate_similarity
from simcse_lit.config.checks.evaluate import validate_evaluation
from simcse_lit.config.checks.export import validate_export, validate_import
from simcse_lit.config.checks.index import validate_index, validate_search
from simcse_lit.config.checks.train import validate
from simcse_lit.config.network import needs_hub, use_cache_when_unreachable
from simcse_lit.launch import ranks


@dataclass(frozen=True)
class Keys:
    """How a verb's configuration is typed and checked.

    Args:
        check: turns the composed configuration into typed objects, or raises UserError.
        models: keys that name encoders, which the Hub may have to be asked for.
        files: keys that name text, which it may have to be asked for.
        texts: keys whose value is taken as it stands, whatever it would mean to Hydra.
        lists: keys and groups whose `key=a,b` means the list [a,b]; in a multirun it means two jobs.
    """

    check: Callable[[DictConfig], Any]
    models: tuple[str, ...] = ("checkpoint",)
    files: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()


KEYS = {
    "train": Keys(validate, models=("model.name_or_path", "augmentation.model"), files=("data.train_file",)),
    "evaluate": Keys(
        validate_evaluation,
        models=("checkpoint", "compare"),
        files=("postprocess.fit_on",),
        lists=("checkpoint", "compare", "tasks", "analyses"),
    ),
    "encode": Keys(validate_encode, files=("input",), texts=("checkpoint", "input", "output", "column")),
    "similarity": Keys(validate_similarity, files=("first", "second"), texts=("checkpoint", "first", "second", "column")),
    "index": Keys(
        validate_index,
        files=("input", "add"),
        texts=("checkpoint", "folder", "input", "vectors", "add", "column"),
        lists=("delete",),
    ),
    "search": Keys(validate_search, files=("input",), texts=("checkpoint", "folder", "query", "input", "column")),
    "serve": Keys(validate_serve, files=("corpus",), texts=("checkpoint", "folder", "corpus", "column")),
    "export": Keys(validate_export, texts=("checkpoint", "output", "push_to_hub")),
    "import_checkpoint": Keys(validate_import, models=("tokenizer",), texts=("checkpoint", "output", "tokenizer")),
}


def task_of(verb: str) -> Callable[[DictConfig], Any]:
    """The function that does a verb's work with a composed configuration, and returns what a sweeper is given."""
    keys = KEYS[verb]

    def task(composed: DictConfig) -> Any:
        config = keys.check(composed)
        use_cache_when_unreachable(asks_hub(verb, config))
        if verb == "train":
            devices, num_nodes = config.trainer.devices, config.trainer.num_nodes
            if devices * num_nodes > 1 and ranks.rank() is None:
                return ranks.start_ranks("simcse_lit.train", devices, num_nodes)
            composed.run_dir = ranks.agree_on_run_dir(config.run_dir)
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
