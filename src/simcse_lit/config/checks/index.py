"""How an index is built and searched: `conf/index/KIND.yaml` with what the caller says instead, and the configurations of
the commands `index` and `search`, checked. No torch and no faiss here.
"""

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
    """The settings of one kind, for those who don't come through Hydra.

    Args:
        kind: exact, ivf, hnsw or pq.
        settings: what differs from `conf/index/KIND.yaml`.

    Raises:
        UserError: an unknown kind or key, or an impossible value.
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
    """Refuse a value that cannot be, or one that this kind of index does not read.

    Raises:
        UserError: as above.
    """
    if config.kind not in KINDS:
        raise UserError(f"index.kind={config.kind}: not one of {', '.join(KINDS)}.{did_you_mean(config.kind, KINDS)}")
    known = cast(DictConfig, OmegaConf.load(CONF_DIR / "index" / f"{config.kind}.yaml"))
    for field in fields(config):
        value = getattr(config, field.name)
        if value is None or field.name == "kind":
            if field.name in known and value is None and known[field.name] is not None:
                raise UserError(f"index.{field.name}: has no value. Usual is {known[field.name]}.")
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
        UserError: a key is unknown, has no value, an impossible value, or contradicts another.
    """
    config = encoder_config(composed, BuildIndexConfig, needs_checkpoint=False)
    check_positive(composed, ("block",))
    check_index(config.index)
    if not config.folder:
        raise UserError("folder: has no value. Name the folder of the index: folder=INDEX")
    deleted = config.delete if isinstance(config.delete, list) else [] if config.delete is None else [config.delete]
    if not all(isinstance(number, int) for number in deleted):
        raise UserError(f"delete={config.delete}: must be an id, or a list of ids: delete=3,17")
    config.delete = deleted
    builds, changes = bool(config.input or config.vectors), bool(config.add or config.delete)
    if builds == changes:
        raise UserError(
            "input, add, delete: "
            + ("an index is built, or changed, in one call." if builds else "there is nothing to do.")
            + "\nBuild one: input=FILE checkpoint=MODEL, or vectors=FILE.parquet; change one: add=FILE, delete=3,17"
        )
    if config.vectors is not None:
        suffix = Path(config.vectors).suffix
        if suffix not in VECTOR_FORMATS:
            raise UserError(f"vectors={config.vectors}: unknown format {suffix!r}; known are {', '.join(VECTOR_FORMATS)}.")
        if (suffix == ".parquet") == bool(config.input):
            raise UserError(
                f"vectors={config.vectors}: "
                + (
                    "holds the texts too; leave input out."
                    if config.input
                    else "holds no texts; name their file: input=FILE"
                )
            )
    elif builds and not config.checkpoint and not is_index(str(config.input)):
        raise UserError("checkpoint: has no value. Name the encoder: checkpoint=MODEL, or give vectors=FILE.")
    return config


def validate_search(composed: DictConfig) -> SearchConfig:
    """As `validate_index`, for `search.yaml`."""
    config = encoder_config(composed, SearchConfig, needs_checkpoint=False)
    check_choices(composed, {"output": ("table", "jsonl")})
    check_positive(composed, ("top_k",))
    if not config.folder:
        raise UserError("folder: has no value. Name the folder of an index: folder=INDEX")
    if (config.query is None) == (config.input is None):
        raise UserError('query, input: give one of them: query="a sentence", or input=FILE, - for standard input.')
    if config.query is not None and not config.query.strip():
        raise UserError("query: is empty.")
    if not -1 <= config.threshold <= 1:
        raise UserError(f"threshold={config.threshold}: is a cosine, between -1 and 1.")
    return config


def is_index(folder: str) -> bool:
    """Whether this is the folder of an index."""
    return (Path(folder).expanduser() / "index.json").is_file()
