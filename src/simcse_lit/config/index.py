"""How an index is built: `conf/index/KIND.yaml` with what the caller says instead, checked. No torch and no faiss here."""

from dataclasses import fields
from typing import Any, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from simcse_lit.config import CONF_DIR
from simcse_lit.config.schema import IndexConfig
from simcse_lit.config.validation import did_you_mean, explain_value_error
from simcse_lit.errors import UserError

KINDS = ("exact", "ivf", "hnsw", "pq")


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
        raise UserError(f"index.{explain_value_error(error)}") from error
    check_index(config)
    return config


def check_index(config: IndexConfig) -> None:
    """Refuse a value that cannot be, or one that this kind of index does not read.

    Raises:
        UserError: as above.
    """
    if config.kind not in KINDS:
        raise UserError(f"index.kind={config.kind}: not one of {', '.join(KINDS)}.{did_you_mean(config.kind, KINDS)}")
    known = OmegaConf.load(CONF_DIR / "index" / f"{config.kind}.yaml")
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
