"""Continuing a run: which checkpoint `resume` means, and that it is the same run that is continued; and continuing a sweep:
which of its jobs are finished, by their resolved configuration.

`resume=auto` continues in this run folder if there is a checkpoint in it, `resume=FOLDER` in that one. Imports no torch.
"""

import copy
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, open_dict

from simcse_lit.config import CONF_DIR
from simcse_lit.config.as_typed import escaped, key_of, quoted, unquoted
from simcse_lit.config.checks.rules import typed
from simcse_lit.config.earlier import read_config, read_overrides, read_yaml
from simcse_lit.config.folders import LAST, OVERRIDES, check_free
from simcse_lit.config.moved import targets
from simcse_lit.config.schema import TrainConfig
from simcse_lit.config.signature import is_ours
from simcse_lit.disk import damage
from simcse_lit.errors import UserError
from simcse_lit.scores import dev_score, read_scores

BEST = "best-*.ckpt"  # where callbacks.checkpoint of conf/ keeps the best weights, beside the last
# What may change when a run is continued: where and how it is computed, watched and scored, not what is computed.
FREE = (
    "name",
    "group",
    "run_dir",
    "resume",
    "senteval",
    "tasks",
    "analyses",
    "evaluation",
    "demo",
    "callbacks",
    "logger",
)
TARGET = re.compile(r"^\s*_target_:\s*([\w.]+)", re.MULTILINE)
REMOTE_CODE = "model.trust_remote_code"
FREE_KEYS = {
    "trainer": (
        "accelerator",
        "devices",
        "num_nodes",
        "strategy",
        "micro_batch_size",
        "length_chunks",
        "chunk_overhead",
        "compile",
        "extra",
    ),
    "data": ("num_workers", "cache_dir", "on_bad_row"),
    "model": ("trust_remote_code",),
}


def run_folder(resume: str) -> Path:
    """The run folder that `resume=FOLDER` names, by itself or by one of its checkpoints or its export."""
    path = Path(resume).expanduser()
    above = [path, *path.parents][:3]  # FOLDER/checkpoints/last.ckpt
    return next((folder for folder in above if (folder / OVERRIDES).is_file()), path)


def asked_folder(arguments: Sequence[str]) -> str | None:
    """What `resume=FOLDER` names on a command line as typed; None without it, and for `resume=auto`."""
    asked = [unquoted(word.partition("=")[2]) for word in arguments if key_of(word) == "resume"]
    return asked[-1] if asked and asked[-1] not in ("auto", "null", "") else None


def earlier_words(arguments: Sequence[str]) -> list[str]:
    """What the run that `resume=FOLDER` names was started with, for Hydra: its overrides, folder and configuration files.

    Args:
        arguments: of this command, as typed; they come behind the words that are returned, and win.

    Returns:
        Nothing without `resume=FOLDER`.

    Raises:
        UserError: there is no such run, or it was not started by this user and names what only its owner may.
    """
    asked = asked_folder(arguments)
    if asked is None:
        return []
    folder = run_folder(asked)
    checkpoint = checkpoint_of(asked, folder)
    if not (folder / OVERRIDES).is_file():
        run = next(iter(sorted(folder.glob("*/.hydra/overrides.yaml"))), None)
        way = f" Name one of the runs in it: resume={run.parents[1]}" if run else ""
        raise UserError(f"resume={asked}: no run to continue: {folder} holds no {OVERRIDES}.{way}")
    if not checkpoint.is_file():
        way = f" Its last: resume={folder}" if (folder / LAST).is_file() else instead_of(checkpoint)
        raise UserError(f"resume={asked}: no run to continue: {folder} holds no {checkpoint.relative_to(folder)}.{way}")
    words = [word for word in read_overrides(folder) if key_of(word) != "resume"]
    files = [word for word in _configuration_files(folder) if key_of(word) not in set(map(key_of, arguments))]
    for word in words:
        if re.match("[~+]*hydra[./]", word):
            raise UserError(f"{folder / OVERRIDES}: {word}: no run writes this there. The folder is damaged.")
    if not is_ours(folder):
        _check_foreign([*files, *words], arguments, folder)
    place = [] if "hydra.run.dir" in map(key_of, arguments) else [f"hydra.run.dir={quoted(str(folder))}"]
    return [*files, *words, *place]


def _configuration_files(folder: Path) -> list[str]:
    """The options by which a run named configuration files of the user's: --config-dir, --config-path, --config-name."""
    path = folder / ".hydra" / "hydra.yaml"
    try:
        hydra = read_yaml(path)["hydra"]
        name, words = hydra["job"]["config_name"], list(hydra["overrides"]["hydra"])
        sources = [(source["provider"], source["path"]) for source in hydra["runtime"]["config_sources"]]
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: cannot be read: Hydra's record is not complete.") from error
    found = [f"--config-dir={folder}" for provider, folder in sources if provider == "command-line"]
    found += [f"--config-path={folder}" for provider, folder in sources if provider == "main" and not _is_own(Path(folder))]
    found += [f"--config-name={name}"] if name != "train" else []
    return found + [word for word in words if key_of(word) == "hydra.searchpath"]


def _is_own(conf: Path) -> bool:
    """Whether a folder is the `conf/` of simcse-lit: here, where it is installed elsewhere, or on another machine."""
    installed = conf.parent.name == "simcse_lit" or (conf.parent / "src" / "simcse_lit").is_dir()
    return conf == CONF_DIR or installed or not conf.is_dir()


def _check_foreign(words: Sequence[str], typed: Sequence[str], folder: Path) -> None:
    """Refuse what is not replayed of a run that this user did not start, unless it is typed now.

    Raises:
        UserError: as above.
    """
    given = {key_of(word) for word in typed}
    for word in words:
        files = word.startswith(("--config", "hydra.searchpath"))
        code = "_target_" in word or "trust_remote_code" in word
        if (files or code) and key_of(word) not in given:
            raise UserError(_foreign(folder, word))


def check_targets(config: DictConfig, words: Sequence[str]) -> None:
    """See that a run that this user did not start builds nothing that simcse-lit's own configuration does not name.

    `earlier_words` has looked at its words; this looks at what they compose.

    Args:
        config: composed, before anything is built from it.
        words: overrides that composed it: those of `earlier_words`, then those typed now.

    Raises:
        UserError: it names another class.
    """
    folder = run_folder(str(config.resume))
    if config.resume in (None, "auto") or is_ours(folder):
        return
    known = {name for file in CONF_DIR.rglob("*.yaml") for name in TARGET.findall(file.read_text(encoding="utf-8"))}
    earlier = [word for word in read_overrides(folder) if key_of(word) != "resume"]
    now = words[len(earlier) :]
    known |= {name for word in now if "_target_" in word for name in re.findall(r"[\w.]+", word)}
    composed = composed_run(config, folder)
    for key, value in targets(asdict(composed), ""):
        if value not in known:
            raise UserError(_foreign(folder, f"{key}={value}"))
    if composed.model.trust_remote_code and REMOTE_CODE not in map(key_of, now):
        raise UserError(_foreign(folder, f"{REMOTE_CODE}=true"))


def _foreign(folder: Path, word: str) -> str:
    return (
        f"resume={folder}: this folder was not written by a run of yours, and it asks for\n  {word}\n"
        "which could run code of whoever wrote it. If you trust it, type that beside resume=."
    )


def in_folder(config: DictConfig, run_dir: Path) -> DictConfig:
    """What Hydra composed for a job, as the job will see it in this run folder."""
    own = copy.deepcopy(config)
    with open_dict(own):
        own.pop("hydra", None)
    own.run_dir = escaped(str(run_dir.absolute()))
    return own


def composed_run(config: DictConfig, run_dir: Path) -> TrainConfig:
    """What Hydra composed for a training, as typed objects, as if it ran in this folder.

    Raises:
        UserError: see `checks.rules.typed`.
    """
    return typed(in_folder(config, run_dir), TrainConfig)


def checkpoint_of(resume: str, folder: Path) -> Path:
    """The checkpoint that `resume` names, or the last of the folder; for `auto` the best, if a kill left only that."""
    if resume.endswith(".ckpt"):
        return Path(resume).expanduser()
    best = sorted(folder.glob(f"{LAST.parent}/{BEST}")) if resume == "auto" and not (folder / LAST).is_file() else []
    return best[-1] if best else folder / LAST


def instead_of(checkpoint: Path) -> str:
    """How to go on without a checkpoint that is gone or damaged.

    Args:
        checkpoint: the last of a run, or the best.
    """
    last, anew = checkpoint.with_name(LAST.name), "start a new run in another folder: hydra.run.dir=DIR."
    if checkpoint.name != last.name and last.is_file() and not damage(last):
        weights = f"python -m simcse_lit.export checkpoint={last} output=FOLDER"
        return f"\nWithout its best weights the run cannot be finished. Export its last ones:\n  {weights}\nor {anew}"
    best = [path for path in sorted(checkpoint.parent.glob(BEST)) if path != checkpoint and not damage(path)]
    if best:
        return f"\nContinue from the best weights so far: resume={best[-1]}"
    return f"\nNo other checkpoint of the run is whole; {anew}"


def checkpoint_to_resume(config: TrainConfig) -> Path | None:
    """The checkpoint from which `resume` continues; None if there is none to continue from.

    Raises:
        UserError: see `holds_this_run`.
    """
    path = checkpoint_of(config.resume or "auto", Path(config.run_dir))
    return path if holds_this_run(config) and path.is_file() else None


def holds_this_run(config: TrainConfig) -> bool:
    """Whether `resume` is asked for, and the run folder holds this very run, finished or with a checkpoint.

    Raises:
        UserError: it holds something else: another verb's files, or a run with a setting that decides its result and has
            changed; or a run that cannot be continued.
    """
    if config.resume is None:
        return False
    folder = Path(config.run_dir)
    if config.resume != "auto" and run_folder(config.resume).resolve() != folder.resolve():
        raise UserError(
            f"resume={config.resume}: a run is continued in its own folder, and this one's is {folder}.\n"
            "Leave hydra.run.dir out. A multirun: resume=auto hydra.sweep.dir=FOLDER_OF_THE_SWEEP."
        )
    path = checkpoint_of(config.resume, folder)
    if not path.is_file() and not read_scores(folder).get("after"):
        check_free(folder, "hydra.run.dir", "train")
        return False
    if _is_cut(asdict(config)):
        raise UserError("trainer.extra.limit_train_batches: a run of cut epochs cannot be continued; use trainer.max_steps.")
    earlier, now = read_config(folder), asdict(config)
    for group in (group for group in now if group not in FREE):
        for key, value in _leaves(now[group], group):
            if key.removeprefix(f"{group}.") in FREE_KEYS.get(group, ()):
                continue
            if key == "data.revision" and not config.data.streaming:
                continue  # the text itself is compared (`data/datamodule.py`), and this may be what brings it back
            before = dict(_leaves(earlier.get(group), group)).get(key)
            if before != value:
                raise UserError(
                    f"resume={config.resume}: {key} was {before} in the run in {folder}, and is {value} now: another run.\n"
                    f"Continue it with {key}={before}, or start a new one in another folder: hydra.run.dir=DIR."
                )
    return True


@dataclass(frozen=True)
class Finished:
    """A run that ended well: its folder, and its score on the development set."""

    folder: Path
    score: float


def finished_runs(folder: Path) -> dict[str, Finished]:
    """Every finished run below a folder, by its `identity`."""
    found: dict[str, Finished] = {}
    for path in sorted(folder.rglob("scores.json")):
        try:
            after = read_scores(path.parent).get("after")
        except UserError:
            continue
        own = _identity_in(path.parent)
        if after and own:
            found.setdefault(own, Finished(path.parent, dev_score(after)[1]))
    return found


def identity(config: Mapping[str, Any]) -> str:
    """What two runs of the same resolved configuration share, and others do not.

    Everything counts but the run folder, `resume` and `demo`: another score asked for is another run.
    """
    here = str(config.get("run_dir"))
    values = {
        key: json.dumps(value, sort_keys=True, default=str).replace(here, ".")
        for key, value in flat(config)
        if key.rpartition(".")[2] not in ("run_dir", "resume") and not key.startswith("demo.")
    }
    return json.dumps(values, sort_keys=True)


def is_another(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a folder holds a run that is not of this resolved configuration, or that is and can't be continued."""
    found = _identity_in(folder)
    return found is not None and (found != identity(config) or (_is_cut(config) and checkpoint_of("auto", folder).is_file()))


def can_continue(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether `resume=auto` would continue what a folder holds with this resolved configuration."""
    kept = checkpoint_of("auto", folder).is_file()
    return _identity_in(folder) == identity(config) and kept and not _is_cut(config)


def _is_cut(config: Mapping[str, Any]) -> bool:
    return "limit_train_batches" in config["trainer"]["extra"]


def _identity_in(folder: Path) -> str | None:
    """Of the run in a folder; None if there is none."""
    try:
        return identity(read_config(folder))
    except UserError:
        return None


def flat(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of everything in a configuration; a list is a value, and so is an empty group."""
    for name, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _leaves(node: Any, key: str) -> list[tuple[str, Any]]:
    """(dotted key, value) of a group's keys, of one level: what is below them is compared as a whole."""
    return [(f"{key}.{name}", value) for name, value in node.items()] if isinstance(node, dict) else [(key, node)]
