"""Runs a command under Hydra and turns every error that a user can mend into one screen without a stack.

Each command module (`train.py`, ...) calls `run`. Set HYDRA_FULL_ERROR=1 to see the stack all the same.
"""

import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from traceback import walk_tb
from typing import Any, NoReturn

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from simcse_lit.cli import help
from simcse_lit.config import CONF_DIR, resolvers, schema
from simcse_lit.config.checks.train import did_you_mean, explain_value_error, unknown_key
from simcse_lit.errors import UserError
from simcse_lit.launch import handover, processes, ranks
from simcse_lit.launch.command import quoted, started_module
from simcse_lit.launch.launcher import JobFailed

log = logging.getLogger(__name__)

_PACKAGE = Path(__file__).resolve().parents[1]


def run(
    task: Callable[[DictConfig], Any], config_name: str, *, lists: Sequence[str] = (), texts: Sequence[str] = ()
) -> None:
    """Compose `conf/CONFIG_NAME.yaml` with the command line and call `task` with it, once or once a job of a multirun.

    Args:
        task: what is run.
        config_name: the command's name too.
        lists: keys and groups whose `key=a,b` means the list [a,b], but in a multirun, where it means two jobs.
        texts: keys whose value is a text or a path, taken as it stands, whatever it would mean to Hydra.

    Exits with status 1 and a message on standard error for a `UserError` or a mistake in the configuration, and with 130
    or 143 when a signal stopped it. In a process that was started for a job, what the task returns, or why it failed, is
    handed over to the one that started it; a rank leaves it to that one to say so.
    """
    schema.register()
    resolvers.register()
    full_stack = processes.FULL_ERROR not in ("", "0")
    if not os.environ.get("SIMCSE_DATA"):
        os.environ.pop("SIMCSE_DATA", None)  # set and empty is not set, here and in the jobs of a sweep
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises instead of printing, and the message can be ours
    rank, parent = ranks.rank(), handover.take()
    if parent:
        processes.die_with_parent()
    if not {"-m", "--multirun"} & set(sys.argv):
        sys.argv[1:] = [as_text(as_list(argument, lists), texts) for argument in sys.argv[1:]]
    if rank:
        sys.argv[1:] = ranks.silenced(sys.argv[1:])

    def end_with(error: Exception) -> NoReturn:
        message = explain(error, config_name)
        first = handover.hand_over_error(parent, message or f"{type(error).__name__}: {error}") if parent else True
        said_by_parent = parent and rank is not None and (message or not first)
        if full_stack or not (message or said_by_parent):
            raise error
        if not said_by_parent:
            print(f"\nError: {message}", file=sys.stderr)
        sys.exit(1)

    def job(composed: DictConfig) -> Any:
        run_dir = HydraConfig.get().runtime.output_dir
        has_run_folder = HydraConfig.get().output_subdir is not None and not rank
        if has_run_folder:
            handover.note_failure(run_dir, None)
        try:
            value = task(composed)
        except Exception as error:
            if has_run_folder:
                handover.note_failure(run_dir, explain(error, config_name) or f"{type(error).__name__}: {error}")
            if HydraConfig.get().mode == RunMode.MULTIRUN:  # Hydra shows the first failure, and that after the last job
                number = HydraConfig.get().job.num
                log.error("Job %s failed: %s", number, explain(error, config_name) or repr(error))
                raise
            end_with(error)  # at once, before Hydra prints all overrides
        if parent and not rank:
            handover.hand_over_value(parent, value)
        return value

    job.__module__ = started_module(f"simcse_lit.{config_name}")  # Hydra names the job after it; the launcher runs it
    try:
        if help.asked_for(sys.argv[1:]):
            help.show(config_name, sys.argv[1:])
            return
        hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name=config_name)(job)()
    except (KeyboardInterrupt, SystemExit) as stop:
        by_hand = isinstance(stop, KeyboardInterrupt) or isinstance(stop.__context__, KeyboardInterrupt)  # Lightning's
        if not by_hand and not isinstance(stop, processes.Stopped):
            raise
        if not parent:
            print("\nStopped.", file=sys.stderr)
        sys.exit(stop.code if isinstance(stop, processes.Stopped) else 128 + signal.SIGINT)
    except Exception as error:
        end_with(error)


def as_list(argument: str, lists: Sequence[str]) -> str:
    """`key=a,b` as `key=[a,b]` for those keys; everything else as it is."""
    key, _, value = argument.partition("=")
    is_list = key in lists and "," in value and value[0] not in "[\"'"
    return f"{key}=[{value}]" if is_list else argument


def as_text(argument: str, texts: Sequence[str]) -> str:
    """`key=any text, with (anything)` as a quoted string for those keys; everything else as it is."""
    key, equals, value = argument.partition("=")
    return f"{key}={quoted(value)}" if equals and key in texts and value != "null" else argument


def explain(error: Exception, config_name: str) -> str | None:
    """The message for a person, or None when the error is not one that the user can mend."""
    cause = error.__cause__
    if isinstance(error, JobFailed):
        return error.summary
    for user_error in (error, cause):  # as the cause: raised in something that Hydra instantiates
        if isinstance(user_error, UserError):
            # A data loader's worker puts its stack before the message.
            return str(user_error).rpartition(f"{UserError.__module__}.UserError: ")[2].rstrip()
    if isinstance(error, ValueError) and "Unable to configure handler" in str(error):
        return f"hydra.run.dir: the run folder cannot be written: {cause}\nChoose another one: hydra.run.dir=DIR."
    if isinstance(error, MissingConfigException):  # an OSError too, so it comes first
        return _explain_missing_option(error)
    if isinstance(error, OSError):
        return _explain_run_folder(error)
    if isinstance(cause, (ConfigKeyError, ConfigAttributeError)) and cause.full_key:
        return unknown_key(cause.full_key, _valid_keys(config_name))
    if isinstance(cause, OmegaConfBaseException):
        return explain_value_error(cause)
    if isinstance(error, OmegaConfBaseException):
        return explain_value_error(error)
    if isinstance(error, OverrideParseException) and re.fullmatch(r"[\w.@/-]+", error.override):
        return f"{error.override}: no value. Give it one: {error.override}=VALUE"
    if isinstance(error, ValueError) and str(error).startswith("Config group override must be"):
        groups = [argument for argument in sys.argv[1:] if argument.endswith("=null")]
        return f"{' '.join(groups) or 'GROUP=null'}: a group is never null. Name an option of it: --help; or none: GROUP=[]"
    if unused := re.match(r"Could not override '([^']+)'\. No match in the defaults list", str(error)):
        return f"{unused[1]}: {config_name} has no such group. Its groups and keys: --help."
    if isinstance(error, (ConfigCompositionException, HydraException)):
        return str(error).strip() or str(cause)
    return None


def _explain_missing_option(error: MissingConfigException) -> str:
    """`model=bert-bse`: Hydra's text lists the options; the nearest one is added, and its search path left out."""
    group = re.search(r"Available options in '(.+)'", str(error))
    listed = re.search(
        r"Could not load '(\w+)/([^/']+)'", str(error)
    )  # one of GROUP=[a,b], whose options Hydra does not list
    if listed:
        options = sorted(path.stem for path in (CONF_DIR / listed[1]).glob("*.yaml"))
        hint = did_you_mean(listed[2], options)
        return f"{listed[1]}: there is no option {listed[2]}.{hint}\nOptions: {', '.join(options)}"
    if group is None or not error.missing_cfg_file:
        return str(error)
    option = str(error.missing_cfg_file).removeprefix(f"{group[1]}/").removesuffix(".yaml")
    options = [line.strip() for line in str(error).splitlines() if line.startswith("\t") and "provider=" not in line]
    if group[1] == "model" and "/" in option:
        return f"model={option}: there is no such option. A Hub id or a folder goes here: model.name_or_path={option}"
    hint = did_you_mean(option, options)
    return f"{group[1]}={option}: there is no such option.{hint}\nOptions: {', '.join(options)}"


def _explain_run_folder(error: OSError) -> str | None:
    """Hydra makes the run folder before the task starts; only a failure there is explained here."""
    frames = [frame.f_code for frame, _ in walk_tb(error.__traceback__)]
    names = [frame.co_name for frame in frames]
    start = next((names.index(name) for name in ("run_job", "sweep") if name in names), None)
    if start is None or any(Path(frame.co_filename).is_relative_to(_PACKAGE) for frame in frames[start:]):
        return None
    return (
        f"hydra.run.dir: the run folder cannot be written: {error.strerror or error}: {error.filename}\n"
        "Choose another one: hydra.run.dir=DIR (a multirun: hydra.sweep.dir=DIR)."
    )


def _valid_keys(config_name: str) -> list[str]:
    """Every group and every dotted key of the default configuration."""
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        composed = hydra.compose(config_name)
    groups = [folder.name for folder in CONF_DIR.iterdir() if folder.is_dir()]
    return groups + _dotted(composed, "")


def _dotted(node: DictConfig, prefix: str) -> list[str]:
    keys = []
    for key in map(str, node):
        name = f"{prefix}{key}"
        child = node._get_node(key)
        keys += [name, *_dotted(child, f"{name}.")] if isinstance(child, DictConfig) else [name]
    return keys
