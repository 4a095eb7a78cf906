"""Translates the errors of Hydra, OmegaConf and the file system into one screen for the user.

Where an error's type is not specific enough, its English text is matched, only in this file and by the names below.
`tests/config/test_hydra_words.py` provokes each error and fails when a new version words it differently.
"""

import errno
import re
import sys
from difflib import get_close_matches
from pathlib import Path
from traceback import walk_tb

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from simcse_lit.config import CONF_DIR, extension_dirs, options
from simcse_lit.errors import UserError, did_you_mean

MISSING_VALUE = "Missing mandatory value"
NO_SIMCSE_DATA = "Environment variable 'SIMCSE_DATA'"
NO_LIST = "is not a ListConfig"
NO_LOG_FILE = "Unable to configure handler"
NULL_GROUP = "Config group override must be"
KEY_OF_NOTHING = ("Unexpected type for root: NoneType", "'NoneType' object has no attribute 'get'")  # OmegaConf.update
NO_GROUP = re.compile(r"Could not override '([^']+)'\. No match in the defaults list")
OPTIONS_OF = re.compile(r"Available options in '(.+)'")
NO_HOME = "Could not determine home directory"  # pathlib, of ~ and ~NAME
LINK_TO_ITSELF = re.compile(r"Symlink loop from '(.*)'")  # pathlib
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# Errors of the file system that only the user can fix.
REFUSED = {
    *(*FULL, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP),
}
NO_OPTION_OF_A_LIST = re.compile(r"Could not load '(\w+)/([^/']+)'")  # one of GROUP=[a,b]; Hydra does not list the options
IN_A_WORKER = f"{UserError.__module__}.UserError: "  # a data loader's worker prepends its stack trace

_PACKAGE = Path(__file__).resolve().parents[1]


def explain(error: Exception, verb: str) -> str | None:
    """Return the message for the user, or None if the user cannot fix the error.

    Args:
        error: raised while composing or running.
        verb: verb whose configuration was composed.
    """
    cause = error.__cause__
    for user_error in (error, cause):  # it is the cause if Hydra was instantiating something
        if isinstance(user_error, UserError):
            return str(user_error).rpartition(IN_A_WORKER)[2].rstrip()
    if isinstance(error, ValueError) and NO_LOG_FILE in str(error):
        return f"hydra.run.dir: the run folder cannot be written: {cause}\nChoose another one: hydra.run.dir=DIR."
    if isinstance(error, MissingConfigException):  # also an OSError, so it is checked first
        return _missing_option(error)
    if isinstance(error, OSError):
        return _run_folder(error) or _file_system(error)
    if isinstance(error.__context__, OSError) and error.__context__.errno in FULL:  # torch.save then raises another error
        return _file_system(error.__context__)
    if isinstance(error, RuntimeError) and (found := _unresolved(str(error))):
        return found
    if isinstance(cause, (ConfigKeyError, ConfigAttributeError)) and cause.full_key:
        return unknown_key(cause.full_key, _valid_keys(verb))
    for value_error in (cause, error):
        if isinstance(value_error, OmegaConfBaseException):
            return explain_value(value_error)
    return _composition(error, verb)


def _composition(error: Exception, verb: str) -> str | None:
    """Explain what Hydra rejects in the command line."""
    text = str(error)
    if isinstance(error, OverrideParseException) and re.fullmatch(r"[\w.@/-]+", error.override):
        return f"{error.override}: has no value. Set it: {error.override}=VALUE"
    if isinstance(error, ValueError) and text.startswith(NULL_GROUP):
        groups = [argument for argument in sys.argv[1:] if re.fullmatch(r"[^.=]+=null", argument)]
        return (
            f"{' '.join(groups) or 'GROUP=null'}: a group cannot be null. Choose an option (see --help), or none: GROUP=[]"
        )
    if isinstance(error, (AssertionError, AttributeError)) and text.startswith(KEY_OF_NOTHING):
        return _key_of_nothing()
    if unused := NO_GROUP.match(text):
        return f"{unused[1]}: {verb} has no such group. Its groups and keys: --help."
    if isinstance(error, (ConfigCompositionException, HydraException)):
        return text.strip() or str(error.__cause__)
    return None


def _key_of_nothing() -> str:
    """Explain a key or a mapping for a group without an option, such as `+pooler.name=mine` where the pooler is null."""
    parts = [match[0] for argument in sys.argv[1:] if (match := re.match(r"\+*(?:pooler|projection)(?=[.=])", argument))]
    group = parts[0].lstrip("+") if parts else "GROUP"
    return (
        f"{group}: has no option here, so its keys cannot be set one by one.\n"
        f"Write them into FOLDER/{group}/NAME.yaml, and type: --config-dir FOLDER {group}=NAME"
    )


def _missing_option(error: MissingConfigException) -> str:
    """Explain an unknown option such as `model=bert-bse`: list the options and the nearest one."""
    text = str(error)
    if listed := NO_OPTION_OF_A_LIST.search(text):
        known = options(listed[1])
        return (
            f"{listed[1]}={listed[2]}: there is no such option.{did_you_mean(listed[2], known)}\nOptions: {', '.join(known)}"
        )
    group = OPTIONS_OF.search(text)
    if group is None or not error.missing_cfg_file:
        return text
    option = str(error.missing_cfg_file).removeprefix(f"{group[1]}/").removesuffix(".yaml")
    if group[1] == "model" and "/" in option:
        return f"model={option}: there is no such option. For a Hub id or a folder, use model.name_or_path={option}"
    listed_by_hydra = [line.strip() for line in text.splitlines() if line.startswith("\t") and "provider=" not in line]
    hint = did_you_mean(option, listed_by_hydra)
    return f"{group[1]}={option}: there is no such option.{hint}\nOptions: {', '.join(listed_by_hydra)}"


def _run_folder(error: OSError) -> str | None:
    """Explain a failure to make the run folder, which Hydra does before the verb starts; None for other errors."""
    frames = [frame.f_code for frame, _ in walk_tb(error.__traceback__)]
    names = [frame.co_name for frame in frames]
    start = next((names.index(name) for name in ("run_job", "sweep") if name in names), None)
    if start is None or any(Path(frame.co_filename).is_relative_to(_PACKAGE) for frame in frames[start:]):
        return None
    return (
        f"hydra.run.dir: the run folder cannot be written: {error.strerror or error}: {error.filename or 'disk'}\n"
        "Choose another one: hydra.run.dir=DIR (a multirun: hydra.sweep.dir=DIR)."
    )


def _file_system(error: OSError) -> str | None:
    if error.errno not in REFUSED:
        return None
    where = f"{error.filename}: " if error.filename else ""  # empty if the disk is full
    return f"{where}cannot be written or read: {error.strerror}.\nFix that, or use another path."


def _unresolved(text: str) -> str | None:
    """Explain a path that pathlib cannot resolve: `~NAME` of no user, or a symbolic link to itself."""
    if loop := LINK_TO_ITSELF.search(text):
        return f"{loop[1]}: is a symbolic link to itself. Use another path."
    if NO_HOME in text:
        words = [word for word in sys.argv[1:] if re.search(r"(^|[=\[,'\"])~", word)]
        return f"{' '.join(words) or 'A path that begins with ~'}: ~ names no user's home folder here. Write the full path."
    return None


def explain_value(error: OmegaConfBaseException) -> str:
    """Explain a missing value, a wrong type or an interpolation that cannot be resolved, in one or two lines."""
    key = getattr(error, "full_key", None) or "configuration"
    text = str(getattr(error, "msg", None) or error).splitlines()[0]
    if MISSING_VALUE in text:
        return f"{key}: has no value. Set it: {key}=..."
    if NO_SIMCSE_DATA in text:
        other = "another model: model.name_or_path=MODEL" if key == "model.name_or_path" else f"the file itself: {key}=FILE"
        return (
            f"{key}: the environment variable SIMCSE_DATA is not set.\n"
            f"Set it to the folder that holds SentEval/, lm/, nli/ and wiki/, or name {other}."
        )
    if NO_LIST in text:
        return f"{key}: needs a list: {key}=[...]."
    return f"{key}: {text.rstrip('.')}."


def unknown_key(key: str, valid: list[str]) -> str:
    """Return the message for an unknown key, with the nearest known one."""
    group, _, leaf = key.rpartition(".")
    siblings = [other for other in valid if other.startswith(f"{group}.")]
    if group == "trainer" and not get_close_matches(key, siblings, n=1, cutoff=0.8):
        return f"{key}: there is no such key. Other arguments of pytorch_lightning.Trainer: +trainer.extra.{leaf}=..."
    inside = [other for other in valid if group and other.startswith(f"{group}.{leaf}")]
    if inside:
        return f"{key}: there is no such key. Did you mean {inside[0]}?"
    same_leaf = [other for other in valid if other.rpartition(".")[2] == leaf]
    near = same_leaf[:1] or get_close_matches(key, valid, n=1, cutoff=0.6)
    if not near:
        leaves = {other.rpartition(".")[2]: other for other in valid}
        near = [leaves[match] for match in get_close_matches(leaf, list(leaves), n=1, cutoff=0.7)]
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"{key}: there is no such key.{hint}\nAll keys and their values: --cfg job; all groups: --help."


def _valid_keys(verb: str) -> list[str]:
    """Return all groups and all dotted keys of a verb's default configuration."""
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        composed = hydra.compose(verb)
    groups = [folder.name for conf in (CONF_DIR, *extension_dirs()) for folder in conf.iterdir() if folder.is_dir()]
    return groups + _dotted(composed, "")


def _dotted(node: DictConfig, prefix: str) -> list[str]:
    keys = []
    for key in map(str, node):
        name = f"{prefix}{key}"
        child = node._get_node(key)
        keys += [name, *_dotted(child, f"{name}.")] if isinstance(child, DictConfig) else [name]
    return keys
