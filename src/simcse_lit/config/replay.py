"""Replays the overrides and configuration files of an earlier run for `resume=FOLDER`, as far as that is safe."""

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from omegaconf import DictConfig

from simcse_lit.config import CONF_DIR, extension_dirs
from simcse_lit.config.as_typed import key_of, quoted
from simcse_lit.config.checks.rules import composed_run
from simcse_lit.config.earlier import read_overrides, read_yaml
from simcse_lit.config.folders import LAST, OVERRIDES
from simcse_lit.config.moved import targets
from simcse_lit.config.resume import asked_folder, checkpoint_of, instead_of, run_folder
from simcse_lit.config.signature import is_ours
from simcse_lit.errors import UserError

TARGET = re.compile(r"^[^#\n]*?\b_target_:\s*([\w.]+)", re.MULTILINE)
REMOTE_CODE = "model.trust_remote_code"


def earlier_words(arguments: Sequence[str]) -> list[str]:
    """Return the overrides, folder and configuration files that the run named by `resume=FOLDER` was started with.

    Args:
        arguments: words of this command as typed; they follow the returned words and override them.

    Returns:
        Words for Hydra; none without `resume=FOLDER`.

    Raises:
        UserError: there is no such run; or another user started it and it asks for something that could run their code.
    """
    asked = asked_folder(arguments)
    if asked is None:
        return []
    folder = run_folder(asked)
    checkpoint = checkpoint_of(asked, folder)
    if not (folder / OVERRIDES).is_file():
        run = next(iter(sorted(folder.glob("*/.hydra/overrides.yaml"))), None)
        way = f" Name one of the runs in it: resume={run.parents[1]}" if run else ""
        raise UserError(f"resume={asked}: no run to resume: {folder} holds no {OVERRIDES}.{way}")
    if not checkpoint.is_file():
        way = f" Use its last checkpoint: resume={folder}" if (folder / LAST).is_file() else instead_of(checkpoint)
        raise UserError(f"resume={asked}: no run to resume: {folder} holds no {checkpoint.relative_to(folder)}.{way}")
    words = [word for word in read_overrides(folder) if key_of(word) != "resume"]
    files = [word for word in _configuration_files(folder) if key_of(word) not in set(map(key_of, arguments))]
    for word in words:
        if re.match("[~+]*hydra[./]", word):
            raise UserError(f"{folder / OVERRIDES}: {word}: a run never writes this. The folder is damaged.")
    if not is_ours(folder):
        _check_foreign([*files, *words], arguments, folder)
    place = [] if "hydra.run.dir" in map(key_of, arguments) else [f"hydra.run.dir={quoted(str(folder))}"]
    return [*files, *words, *place]


def _configuration_files(folder: Path) -> list[str]:
    """Return the options that named configuration files: --config-dir, --config-path, --config-name."""
    path = folder / ".hydra" / "hydra.yaml"
    try:
        hydra = read_yaml(path)["hydra"]
        name, words = hydra["job"]["config_name"], list(hydra["overrides"]["hydra"])
        sources = [(source["provider"], source["path"]) for source in hydra["runtime"]["config_sources"]]
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: cannot be read: Hydra's record is incomplete.") from error
    found = [f"--config-dir={folder}" for provider, folder in sources if provider == "command-line"]
    found += [f"--config-path={folder}" for provider, folder in sources if provider == "main" and not _is_own(Path(folder))]
    found += [f"--config-name={name}"] if name != "train" else []
    return found + [word for word in words if key_of(word) == "hydra.searchpath"]


def _is_own(conf: Path) -> bool:
    """Return whether a folder is simcse-lit's `conf/`: here, of another installation, or of another machine."""
    installed = conf.parent.name == "simcse_lit" or (conf.parent / "src" / "simcse_lit").is_dir()
    return conf == CONF_DIR or installed or not conf.is_dir()


def _check_foreign(words: Sequence[str], typed: Sequence[str], folder: Path) -> None:
    """Refuse words of a run by another user that could run code, unless they are typed now.

    Raises:
        UserError: there is such a word.
    """
    given = {key_of(word) for word in typed}
    for word in words:
        files = word.startswith(("--config", "hydra.searchpath"))
        code = "_target_" in word or "trust_remote_code" in word
        if (files or code) and key_of(word) not in given:
            raise UserError(_foreign(folder, word))


def check_targets(config: DictConfig, words: Sequence[str]) -> None:
    """Check that a resumed run of another user builds only classes named by simcse-lit and installed packages.

    `earlier_words` checks the words of the run; this checks the configuration that they compose.

    Args:
        config: composed, before anything is built from it.
        words: overrides that composed it: those of `earlier_words`, then those typed now.

    Raises:
        UserError: it names another class.
    """
    folder = run_folder(str(config.resume))
    if config.resume in (None, "auto") or is_ours(folder):
        return
    files = (file for folder in (CONF_DIR, *extension_dirs()) for file in folder.rglob("*.yaml"))
    known = {name for file in files for name in TARGET.findall(file.read_text(encoding="utf-8"))}
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
        "which could run the writer's code. If you trust it, add that to the command."
    )
