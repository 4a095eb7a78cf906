"""Checks of `index.yaml` and `search.yaml`, and the settings of each kind of index. Imports neither torch nor faiss."""

from dataclasses import fields
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from simcse_lit.config import CONF_DIR, options
from simcse_lit.config.checks.encode import VECTOR_FORMATS, encoder_config
from simcse_lit.config.checks.rules import check_choices, check_positive
from simcse_lit.config.hydra_words import explain_value
from simcse_lit.config.schema import BuildIndexConfig, IndexConfig, SearchConfig
from simcse_lit.errors import UserError, did_you_mean

KINDS = options("index")


def index_config(kind: str, **settings: Any) -> IndexConfig:
    """Return the checked settings of a kind of index, without Hydra.

    Args:
        kind: exact, ivf, hnsw or pq.
        settings: values that differ from `conf/index/KIND.yaml`.

    Raises:
        UserError: the kind or a key is unknown, or a value is impossible.

    Example:
        `index_config("hnsw", links=16)`
    """
    if kind not in KINDS:
        raise UserError(f"index={kind}: not one of {', '.join(KINDS)}.{did_you_mean(kind, KINDS)}")
    try:
        merged = OmegaConf.merge(
            OmegaConf.structured(IndexConfig), OmegaConf.load(CONF_DIR / "index" / f"{kind}.yaml"), settings
        )
        config = cast(IndexConfig, OmegaConf.to_object(merged))
    except OmegaConfBaseException as error:
        raise UserError(f"index.{explain_value(error)}") from error
    check_index(config)
    return config


def check_index(config: IndexConfig) -> None:
    """Refuse an impossible value, or a setting that this kind of index does not have.

    Raises:
        UserError: there is such a value or setting.
    """
    if config.kind not in KINDS:
        raise UserError(f"index.kind={config.kind}: not one of {', '.join(KINDS)}.{did_you_mean(config.kind, KINDS)}")
    known = cast(DictConfig, OmegaConf.load(CONF_DIR / "index" / f"{config.kind}.yaml"))
    for field in fields(config):
        value = getattr(config, field.name)
        if value is None or field.name == "kind":
            if field.name in known and value is None and known[field.name] is not None:
                raise UserError(f"index.{field.name}: has no value. The default is {known[field.name]}.")
            continue
        if field.name not in known:
            raise UserError(f"index.{field.name}={value}: index={config.kind} has no such setting.")
        if field.name == "recall_goal" and not 0 < value <= 1:
            raise UserError(f"index.recall_goal={value}: must be above 0 and at most 1.")
        if field.name != "recall_goal" and value < 1:
            raise UserError(f"index.{field.name}={value}: must be 1 or more.")


def validate_index(composed: DictConfig) -> BuildIndexConfig:
    """Check a composed `index.yaml` and return it as typed, resolved objects.

    Raises:
        UserError: a key is unknown, has no value or an impossible one, or contradicts another key.
    """
    config = encoder_config(composed, BuildIndexConfig, needs_checkpoint=False)
    check_positive(composed, ("block",))
    check_index(config.index)
    if not config.folder:
        raise UserError("folder: has no value. Give the folder of the index: folder=INDEX")
    deleted = config.delete if isinstance(config.delete, list) else [] if config.delete is None else [config.delete]
    if not all(isinstance(number, int) for number in deleted):
        raise UserError(f"delete={config.delete}: must be an id, or a list of ids: delete=3,17")
    config.delete = deleted
    builds, changes = bool(config.input or config.vectors), bool(config.add or config.delete)
    if builds == changes:
        raise UserError(
            "input, add, delete: "
            + ("build an index or change one, not both in one command." if builds else "there is nothing to do.")
            + "\nBuild: input=FILE checkpoint=MODEL, or vectors=FILE.parquet. Change: add=FILE, delete=3,17"
        )
    if config.vectors is not None:
        suffix = Path(config.vectors).suffix
        if suffix not in VECTOR_FORMATS:
            raise UserError(f"vectors={config.vectors}: unknown format {suffix!r}. Use one of {', '.join(VECTOR_FORMATS)}.")
        if (suffix == ".parquet") == bool(config.input):
            raise UserError(
                f"vectors={config.vectors}: "
                + (
                    "already holds the texts. Remove input."
                    if config.input
                    else "holds no texts. Add their file: input=FILE"
                )
            )
    elif builds and not config.checkpoint and not is_index(str(config.input)):
        raise UserError("checkpoint: has no value. Give the encoder (checkpoint=MODEL) or vectors (vectors=FILE).")
    return config


def validate_search(composed: DictConfig) -> SearchConfig:
    """Check a composed `search.yaml` and return it as typed, resolved objects.

    Raises:
        UserError: a key is unknown, has no value or an impossible one, or contradicts another key.
    """
    config = encoder_config(composed, SearchConfig, needs_checkpoint=False)
    check_choices(composed, {"output": ("table", "jsonl")})
    check_positive(composed, ("top_k",))
    if not config.folder:
        raise UserError("folder: has no value. Give the folder of an index: folder=INDEX")
    if (config.query is None) == (config.input is None):
        raise UserError('query, input: give exactly one: query="a sentence", or input=FILE (- for standard input).')
    if config.query is not None and not config.query.strip():
        raise UserError("query: is empty. Give a sentence.")
    if not -1 <= config.threshold <= 1:
        raise UserError(f"threshold={config.threshold}: must be a cosine similarity, between -1 and 1.")
    return config


def is_index(folder: str) -> bool:
    """Return whether a folder holds an index."""
    return (Path(folder).expanduser() / "index.json").is_file()
