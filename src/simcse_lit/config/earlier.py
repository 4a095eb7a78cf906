"""Reads the configuration of a run folder, written by this or an earlier version, in this version's form."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

import hydra
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from simcse_lit.config import CONF_DIR, resolvers, schema
from simcse_lit.config.moved import targets_now
from simcse_lit.config.schema import TrainConfig
from simcse_lit.errors import UserError

AVERAGES = {"pooler=avg", "pooler=avg_first_last", "pooler=avg_top2"}  # version 0.1 kept the loss's projection with them


def read_config(folder: Path) -> dict[str, Any]:
    """Read `config.yaml` of a training run.

    A `_target_` with an old path gets its present path. A key that the run's version did not have gets its default under the
    run's overrides.

    Raises:
        UserError: the file is missing or cannot be read.
    """
    config = targets_now(read_yaml(folder / "config.yaml"))
    if not config or not isinstance(config, dict):
        raise UserError(f"{folder / 'config.yaml'}: cannot be read: the file has no keys.")
    younger = [key for key in (*typed_keys(), *_options_of_terms(config)) if not _holds(config, key)]
    if younger:
        for key, value in _defaults(folder, younger).items():
            _put(config, key, value)
    return config


def read_overrides(folder: Path) -> list[str]:
    """Read the overrides of a run, in this version's form.

    Old paths are replaced. The poolers of `AVERAGES` now select `projection=none`, so the run's projection is added.

    Raises:
        UserError: the file is missing or cannot be read.
    """
    path = folder / ".hydra" / "overrides.yaml"
    overrides = read_yaml(path)
    if not isinstance(overrides, list):
        raise UserError(f"{path}: cannot be read: expected a list of overrides, [] if there were none.")
    words = (str(override).partition("=") for override in overrides)
    now = [f"{key}{equals}{targets_now({'_target_': value})['_target_']}" for key, equals, value in words]
    if not AVERAGES.isdisjoint(now) and not any(word.startswith(("projection=", "projection.")) for word in now):
        config = read_yaml(folder / "config.yaml")
        now += [f"projection={config['projection']['name']}"] if _holds(config, "projection.name") else []
    return now


def compose(verb: str, overrides: Sequence[str]) -> DictConfig:
    """Compose `conf/VERB.yaml`; works inside a Hydra job too.

    Raises:
        HydraException: the configuration does not compose.
    """
    schema.register()
    resolvers.register()
    if GlobalHydra.instance().is_initialized():
        return hydra.compose(verb, list(overrides), return_hydra_config=True)
    with hydra.initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return hydra.compose(verb, list(overrides), return_hydra_config=True)


def read_yaml(path: Path) -> Any:
    """Read a YAML file of a run folder without resolving `${...}`.

    Raises:
        UserError: the file is missing or cannot be read.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: cannot be read: {error}.") from error


def _defaults(folder: Path, keys: Sequence[str]) -> dict[str, Any]:
    """Return the defaults of keys under a run's overrides, without keys that have no value."""
    try:
        composed = compose("train", [*read_overrides(folder), "run_dir=unused"])
        found = {key: OmegaConf.select(composed, key) for key in keys if not OmegaConf.is_missing(composed, key)}
        return {
            key: OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
            for key, value in found.items()
        }
    except (UserError, HydraException, OmegaConfBaseException):  # the run used configuration files that are missing here
        return {}


def typed_keys(schema_of: type = TrainConfig, prefix: str = "") -> Iterator[str]:
    """Yield every dotted leaf key of a schema."""
    types = get_type_hints(schema_of)
    for field in fields(schema_of):
        if is_dataclass(types[field.name]):
            yield from typed_keys(types[field.name], f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}"


@cache
def _our_terms() -> dict[str, dict[str, Any]]:
    """Return the loss terms of `conf/loss/default.yaml`."""
    terms: dict[str, dict[str, Any]] = read_yaml(CONF_DIR / "loss" / "default.yaml")["terms"]
    return terms


def _options_of_terms(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield the options of our loss terms that a run also has."""
    for name, ours in _our_terms().items():
        target = f"loss.terms.{name}._target_"
        if _holds(config, target) and config["loss"]["terms"][name]["_target_"] == ours["_target_"]:
            yield from (f"loss.terms.{name}.{option}" for option in ours)


def _holds(config: Any, key: str) -> bool:
    for part in key.split("."):
        if not isinstance(config, Mapping) or part not in config:
            return False
        config = config[part]
    return True


def _put(config: dict[str, Any], key: str, value: Any) -> None:
    *groups, leaf = key.split(".")
    for group in groups:
        config = config.setdefault(group, {})
    config[leaf] = value
