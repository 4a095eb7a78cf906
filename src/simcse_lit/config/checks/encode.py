"""Checks of `encode.yaml`, `similarity.yaml` and `serve.yaml`, before torch is imported."""

from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig

from simcse_lit.config.checks.rules import check_choices, check_positive, check_truncate_dim, typed
from simcse_lit.config.schema import EncodeConfig, EncoderConfig, EvaluateConfig, ServeConfig, SimilarityConfig
from simcse_lit.errors import UserError

E = TypeVar("E", bound=EncoderConfig)

VECTOR_FORMATS = (".npy", ".safetensors", ".parquet")
STDIN = "-"


def validate_encode(composed: DictConfig) -> EncodeConfig:
    """Check a composed `encode.yaml` and return it as typed, resolved objects.

    Raises:
        UserError: a key is unknown, has no value or an impossible one, or contradicts another key.
    """
    config = encoder_config(composed, EncodeConfig)
    check_positive(composed, ("block",))
    if not config.input:
        raise UserError(
            "input: has no value. Give a text file (a text a line) or a table, or - for standard input: input=FILE"
        )
    if not config.output:
        raise UserError(f"output: has no value. Give a file that ends in {', '.join(VECTOR_FORMATS)}: output=FILE")
    suffix = Path(config.output).suffix
    if suffix not in VECTOR_FORMATS:
        raise UserError(f"output={config.output}: unknown format {suffix!r}. Use one of {', '.join(VECTOR_FORMATS)}.")
    if config.input == STDIN and config.column is not None:
        raise UserError(
            f"column={config.column}: standard input has no columns, it is read as a text a line. Remove column."
        )
    return config


def validate_similarity(composed: DictConfig) -> SimilarityConfig:
    """Check a composed `similarity.yaml` and return it as typed, resolved objects.

    Raises:
        UserError: a key is unknown, has no value or an impossible one, or contradicts another key.
    """
    config = encoder_config(composed, SimilarityConfig)
    for key, value in (("first", config.first), ("second", config.second)):
        if value is None or not value.strip():
            raise UserError(f'{key}: has no value. Give a sentence or a file: {key}="A man is cycling."')
    return config


def validate_serve(composed: DictConfig) -> ServeConfig:
    """Check a composed `serve.yaml` and return it as typed, resolved objects.

    Raises:
        UserError: a key is unknown, has no value or an impossible one, or contradicts another key.
    """
    config = encoder_config(composed, ServeConfig)
    check_positive(composed, [f"limits.{limit.name}" for limit in fields(config.limits)])
    if not 0 <= config.port < 2**16:
        raise UserError(f"port={config.port}: must be between 0 and 65535; 0 chooses a free port.")
    for package in ("fastapi", "uvicorn"):
        if find_spec(package) is None:
            raise UserError(
                f"serve: needs {package}, which is not installed.\nInstall it with: pip install 'simcse-lit[serve]'"
            )
    return config


def encoder_config(composed: DictConfig, schema: type[E], *, needs_checkpoint: bool = True) -> E:
    """Check the keys that these commands share and return the configuration as typed, resolved objects."""
    config: E = typed(composed, schema)
    check_choices(composed)
    check_positive(composed, ("token_budget",))
    if needs_checkpoint and not config.checkpoint:
        raise UserError(
            "checkpoint: has no value. Give an encoder: an export folder, a Lightning checkpoint, or a folder or Hub id\n"
            "of transformers or sentence-transformers, e.g. checkpoint=outputs/quickstart/TIME/export."
        )
    if config.max_length < 3:
        raise UserError(f"max_length={config.max_length}: must be 3 or more, since two tokens are special tokens.")
    check_truncate_dim(config.truncate_dim)
    return config


def reads(config: EncoderConfig | EvaluateConfig) -> dict[str, Any]:
    """Return the arguments of `load_encoder` besides the source."""
    return {
        "revision": config.revision,
        "trust_remote_code": config.trust_remote_code,
        "pooler": config.pooler,
        "projection": config.projection,
        "prompt": config.prompt,
        "truncate_dim": config.truncate_dim,
        "precision": config.precision,
    }
