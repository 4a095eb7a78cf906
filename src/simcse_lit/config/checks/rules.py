"""Checks that several verbs share: types, unknown keys, allowed values and ranges."""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TypeVar, cast

from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from simcse_lit.config.as_typed import escaped
from simcse_lit.config.hydra_words import explain_value, unknown_key
from simcse_lit.config.moved import refuse_old_targets
from simcse_lit.config.registered import OURS, named
from simcse_lit.config.schema import TrainConfig
from simcse_lit.errors import UserError, did_you_mean

C = TypeVar("C")

BAD_ROWS = ("error", "skip")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")

# Allowed values of a key, in the configuration of any verb.
CHOICES: dict[str, tuple[str, ...]] = {
    "loss.similarity": ("cosine", "dot"),
    "data.on_bad_row": BAD_ROWS,
    "data.template_denoising": ("never", "training", "always"),
    "on_bad_row": BAD_ROWS,
    "optimizer.schedule": ("linear", "constant", "cosine"),
    "trainer.accelerator": ("auto", "cpu", "gpu", "cuda", "mps"),
    "trainer.length_chunks": ("auto", "always", "packed", "never"),
    "trainer.compile": ("never", "default", "cuda_graphs"),
    "trainer.float32_matmul_precision": ("highest", "high", "medium"),
    "trainer.precision": PRECISIONS,
    "precision": PRECISIONS,
}


def check_truncate_dim(value: int | None) -> None:
    """Refuse an impossible `truncate_dim`.

    Raises:
        UserError: it is below 1.
    """
    if value is not None and value < 1:
        raise UserError(
            f"truncate_dim={value}: must be 1 or more, e.g. truncate_dim=64, or null for all numbers of a vector."
        )


def typed(composed: DictConfig, schema: type[C]) -> C:
    """Return a composed configuration as objects of its schema, with every interpolation resolved.

    Raises:
        UserError: a key is unknown, has no value, or has one of the wrong type.
    """
    _reject_unknown_keys(composed, schema, "")
    try:
        refuse_old_targets(OmegaConf.to_container(composed, resolve=True, throw_on_missing=True))
        config = cast(C, OmegaConf.to_object(composed))
    except OmegaConfBaseException as error:
        raise UserError(explain_value(error)) from error
    if (senteval := getattr(config, "senteval", None)) is not None:
        senteval.dir = senteval.dir or None  # `senteval.dir=` means none
    return config


def in_folder(config: DictConfig, run_dir: Path) -> DictConfig:
    """Return the configuration that Hydra composed for a job as the job sees it in this run folder."""
    own = copy.deepcopy(config)
    with open_dict(own):
        own.pop("hydra", None)
    own.run_dir = escaped(str(run_dir.absolute()))
    return own


def composed_run(config: DictConfig, run_dir: Path) -> TrainConfig:
    """Return the configuration that Hydra composed for a training as typed objects, as if it ran in this folder.

    Raises:
        UserError: as for `typed`.
    """
    return typed(in_folder(config, run_dir), TrainConfig)


def check_choices(composed: DictConfig, own: Mapping[str, Sequence[str]] | None = None) -> None:
    """Check that keys with a fixed set of values have one of them; keys that are absent are skipped.

    A pooler and a projection need a registered name or a class.

    Args:
        composed: the configuration.
        own: allowed values of this verb's keys, besides CHOICES.

    Raises:
        UserError: a value is not allowed.
    """
    for key, allowed in {**CHOICES, **(own or {})}.items():
        group, _, leaf = key.rpartition(".")
        node = OmegaConf.select(composed, group) if group else composed
        value = None if node is None or leaf not in node else node[leaf]
        if isinstance(value, DictConfig):  # a class of the user's, by _target_
            continue
        if value not in allowed and node is not None and leaf in node:
            raise UserError(f"{key}={value}: not one of {', '.join(allowed)}.{did_you_mean(str(value), allowed)}")
    for kind in OURS:
        if (chosen := composed.get(kind)) is not None:
            named(kind, OmegaConf.to_container(chosen), kind)


def check_positive(composed: DictConfig, keys: Sequence[str]) -> None:
    """Check that numbers are finite and greater than 0.

    Raises:
        UserError: one is not.
    """
    for key in keys:
        value = OmegaConf.select(composed, key)
        if not (math.isfinite(value) and value > 0):
            raise UserError(f"{key}={value}: must be a finite number greater than 0.")


def _reject_unknown_keys(node: DictConfig, schema: type, prefix: str) -> None:
    known = {field.name: field.type for field in fields(schema)}
    for key in map(str, node):
        name = f"{prefix}{key}"
        if key not in known:
            raise UserError(unknown_key(name, [f"{prefix}{valid}" for valid in known]))
        child = known[key]
        if isinstance(child, type) and hasattr(child, "__dataclass_fields__"):
            _reject_unknown_keys(node[key], child, f"{name}.")
