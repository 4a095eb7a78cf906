"""Checks of `export.yaml` and `import_checkpoint.yaml`, before torch is imported."""

import re
from pathlib import Path

from omegaconf import DictConfig

from simcse_lit.config.checks.rules import check_choices, check_truncate_dim, typed
from simcse_lit.config.schema import ExportConfig, ImportConfig
from simcse_lit.errors import UserError


def validate_export(composed: DictConfig) -> ExportConfig:
    """Check a composed `export.yaml` and return it as typed, resolved objects.

    Raises:
        UserError: a key is unknown, has no value or an impossible one, or contradicts another key.
    """
    config = typed(composed, ExportConfig)
    check_choices(composed)
    _check_paths(config.checkpoint, config.output)
    check_truncate_dim(config.truncate_dim)
    if config.int8 and "int8" not in config.format:
        raise UserError(f"int8=true format={config.format.get('name')}: only format=onnx supports int8.")
    if config.push_to_hub is not None and not re.fullmatch(r"[\w.-]+/[\w.-]+", config.push_to_hub):
        raise UserError(f"push_to_hub={config.push_to_hub}: must be OWNER/NAME.")
    return config


def validate_import(composed: DictConfig) -> ImportConfig:
    """Check a composed `import_checkpoint.yaml` and return it as typed, resolved objects.

    Raises:
        UserError: a key is unknown, has no value or an impossible one, or contradicts another key.
    """
    config = typed(composed, ImportConfig)
    check_choices(composed)
    _check_paths(config.checkpoint, config.output)
    return config


def _check_paths(checkpoint: str | None, output: str | None) -> None:
    if not checkpoint:
        raise UserError("checkpoint: has no value. Give the encoder to read: checkpoint=FOLDER")
    if not output:
        raise UserError("output: has no value. Give a new folder: output=FOLDER")
    if Path(output).expanduser().exists():
        raise UserError(f"output: {output}: already exists. Remove it, or use another folder: output=FOLDER")
