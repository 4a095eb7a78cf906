"""Checks of `evaluate.yaml`, before torch is imported."""

import re
from glob import glob
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from simcse_lit.config import options
from simcse_lit.config.checks.rules import check_choices, check_positive, check_truncate_dim, typed
from simcse_lit.config.resolvers import is_remote, local_path
from simcse_lit.config.schema import EvaluateConfig
from simcse_lit.errors import UserError, did_you_mean


def validate_evaluation(composed: DictConfig) -> EvaluateConfig:
    """Check a composed `evaluate.yaml` and return it as typed, resolved objects.

    `checkpoint` and `compare` become lists, with patterns replaced by the paths that they match.

    Raises:
        UserError: a key is unknown, has no value or an impossible one, or contradicts another key.
    """
    config = typed(composed, EvaluateConfig)
    check_choices(composed, {"device": ("auto", "cpu", "cuda", "mps")})
    check_positive(composed, ("token_budget",))
    config.checkpoint = list(dict.fromkeys(_names(config.checkpoint, "checkpoint")))
    config.compare = _names(config.compare, "compare")
    if len(config.compare) not in (0, 2):
        raise UserError(f"compare: needs two encoders, not {len(config.compare)}: compare=[A,B].")
    if not config.checkpoint and not config.compare:
        raise UserError(
            "checkpoint: has no value. Give the encoder to score: an export folder, a Lightning checkpoint, or a folder or "
            "Hub id\nof transformers or sentence-transformers, e.g. checkpoint=outputs/quickstart/TIME/export."
        )
    if config.compare and config.compare[0] == config.compare[1]:
        raise UserError(f"compare: lists {config.compare[0]} twice. Give two different encoders.")
    if config.max_length < 3:
        raise UserError(f"max_length={config.max_length}: must be 3 or more, since two tokens are special tokens.")
    check_truncate_dim(config.truncate_dim)
    if config.bootstrap.samples < 0:
        raise UserError(f"bootstrap.samples={config.bootstrap.samples}: must be 0 or greater.")
    if config.compare and config.bootstrap.samples == 0:
        raise UserError("bootstrap.samples=0: compare needs resamples. Set e.g. bootstrap.samples=1000.")
    if not 0 < config.bootstrap.confidence < 1:
        raise UserError(f"bootstrap.confidence={config.bootstrap.confidence}: must be between 0 and 1.")
    if not config.tasks and not config.analyses:
        raise UserError("tasks: there is nothing to score. Choose tasks (tasks=sts) or analyses (analyses=all).")
    if config.analyses and len(config.analysed) != 1:
        raise UserError(f"tasks@analysed: analyses use one set of pairs, not {len(config.analysed)}.")
    _check_postprocess(config)
    return config


def _check_postprocess(config: EvaluateConfig) -> None:
    chosen = config.postprocess
    known = options("postprocess")
    if chosen.transform and chosen.name == "none":
        chosen.name = str(chosen.transform.get("_target_")).rpartition(".")[2]
    if not chosen.transform and chosen.name != "none":
        raise UserError(
            f"postprocess.name={chosen.name}: has no transform. Choose an option: postprocess={'|'.join(known)}."
            f"{did_you_mean(chosen.name, known)}"
        )
    if chosen.dim is not None and chosen.dim < 1:
        raise UserError(f"postprocess.dim={chosen.dim}: must be 1 or more, or null for all.")
    if chosen.dim is not None and chosen.dim not in chosen.transform.values():
        raise UserError(
            f"postprocess.dim={chosen.dim}: postprocess={chosen.name} does not select directions. Use postprocess=whitening."
        )
    if chosen.fit_on is not None:
        if not chosen.transform:
            raise UserError(
                "postprocess.fit_on: postprocess=none fits nothing. Use postprocess=center or postprocess=whitening."
            )
        if not is_remote(chosen.fit_on) and not local_path(chosen.fit_on, "postprocess.fit_on").is_file():
            raise UserError(f"postprocess.fit_on: {chosen.fit_on}: there is no such file.")


def _names(value: Any, key: str) -> list[str]:
    """Return one name or a list of names as a list, with patterns replaced by their matching paths in natural order."""
    values = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(name, str) and name for name in values):
        raise UserError(f"{key}={value}: must be a folder, a file, a pattern or a Hub id, or a list of these.")
    found = []
    for name in values:
        path = Path(name).expanduser()
        if any(character in name for character in "*?[") and not path.exists():
            paths = sorted(glob(str(path)), key=_natural)  # noqa: PTH207  # Path.glob takes no absolute pattern
            if not paths:
                raise UserError(f"{key}: {name}: matches no path.")
            found += paths
        else:
            found.append(name)
    return found


def _natural(path: str) -> list[tuple[int, str]]:
    """Sort key that compares the numbers in a path as numbers."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path)]
