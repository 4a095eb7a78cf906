"""Runs a verb under Hydra, and shows every error that the user can fix as one screen without a stack trace.

HYDRA_FULL_ERROR=1 shows the stack trace too.
"""

import logging
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from simcse_lit.cli import help
from simcse_lit.cli.own_folder import Refused
from simcse_lit.cli.tasks import task_of
from simcse_lit.config import CONF_DIR, resolvers, schema
from simcse_lit.config.as_typed import MULTIRUN, for_hydra
from simcse_lit.config.hydra_words import explain
from simcse_lit.config.replay import earlier_words
from simcse_lit.config.signature import sign
from simcse_lit.errors import UserError
from simcse_lit.launch import handover, processes, ranks
from simcse_lit.launch.command import started_module
from simcse_lit.launch.launcher import JobFailed

log = logging.getLogger(__name__)

Task = Callable[[DictConfig], Any]
VARIABLES = ("SIMCSE_DATA", "SIMCSE_CACHE", "WANDB_PROJECT")  # read by conf/


def run(verb: str, task: Task | None = None) -> None:
    """Compose `conf/VERB.yaml` with the command line and run the verb's task, once for each job of a multirun.

    A process that was started for a job hands the task's value or error to the process that started it. A rank leaves
    printing its error to that process.

    Args:
        verb: name of the verb.
        task: function to call with the composed configuration; None for the verb's own.
    """
    make_ready()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # makes Hydra raise instead of print
    ending = Ending(verb, ranks.rank() if verb == "train" else None, handover.take())
    if ending.parent:
        processes.die_with_parent()
    try:
        sys.argv[1:] = _arguments(verb, ending)
        if help.asked_for(sys.argv[1:]):
            help.show(verb, sys.argv[1:])
        else:
            job = _job(task or task_of(verb), ending)
            job.__module__ = started_module(f"simcse_lit.{verb}")  # Hydra names the job after it, and the launcher runs it
            hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name=verb)(job)()
    except Refused as refused:
        ending.failed(refused.error)
    except (KeyboardInterrupt, SystemExit) as stop:
        ending.stopped(stop)
    except Exception as error:
        ending.failed(error)


def make_ready() -> None:
    """Make what `conf/` needs known to Hydra and OmegaConf, and forget variables that are set and empty."""
    schema.register()
    resolvers.register()
    for name in VARIABLES:
        if not os.environ.get(name):
            os.environ.pop(name, None)  # for the jobs of a sweep, too


def _arguments(verb: str, ending: "Ending") -> list[str]:
    """Return the arguments of this process in the form that Hydra reads; those of a parent process are already complete.

    Raises:
        UserError: a multirun of a verb that supports none; or as for `earlier_words`.
    """
    arguments = sys.argv[1:]
    if ending.verb not in ("train", "evaluate") and (many := sorted(MULTIRUN & set(arguments))):
        raise UserError(
            f"{many[0]}: {ending.verb} supports no multirun; train and evaluate do. Run the command once for each value."
        )
    if not ending.parent:
        arguments = for_hydra(verb, arguments, earlier_words(arguments) if verb == "train" else ())
    return ranks.silenced(arguments) if ending.rank else arguments


@dataclass(frozen=True)
class Ending:
    """How this process ends when its task does not return.

    Args:
        verb: verb that it runs.
        rank: its rank among the processes of a job; None if it is no rank.
        parent: handover folder of the process that started it for a job; None if a user started it.
    """

    verb: str
    rank: int | None
    parent: Path | None

    def failed(self, error: Exception) -> NoReturn:
        """Print the message and exit with 1; raise, with the stack trace, what the user cannot fix."""
        message = message_of(error, self.verb)
        first = True
        if self.parent:
            first = handover.hand_over_error(self.parent, message or f"{type(error).__name__}: {error}")
        said_by_parent = self.parent and self.rank is not None and (message or not first)
        if processes.FULL_ERROR not in ("", "0") or not (message or said_by_parent):
            raise error
        if not said_by_parent:
            print(f"\nError: {message}", file=sys.stderr)
        sys.exit(1)

    def stopped(self, stop: KeyboardInterrupt | SystemExit) -> None:
        """Exit with the status that a shell expects after a signal; re-raise any other exit."""
        by_hand = isinstance(stop, KeyboardInterrupt) or isinstance(
            stop.__context__, KeyboardInterrupt
        )  # raised by Lightning
        if not by_hand and not isinstance(stop, processes.Stopped):
            raise stop
        if not self.parent:
            print("\nStopped.", file=sys.stderr)
        sys.exit(stop.code if isinstance(stop, processes.Stopped) else 128 + signal.SIGINT)


def _job(task: Task, ending: Ending) -> Task:
    """Wrap the task: write its failure into the run folder, and hand over the value that it returns."""

    def job(composed: DictConfig) -> Any:
        run_dir = HydraConfig.get().runtime.output_dir
        has_run_folder = HydraConfig.get().output_subdir is not None and not ending.rank
        if has_run_folder:
            handover.note_failure(run_dir, None)
            sign(Path(run_dir))
        try:
            value = task(composed)
        except Exception as error:
            message = message_of(error, ending.verb)
            if has_run_folder:
                handover.note_failure(run_dir, message or f"{type(error).__name__}: {error}")
            if HydraConfig.get().mode == RunMode.MULTIRUN:  # Hydra shows only the first failure, after the last job
                log.error("Job %s failed: %s", HydraConfig.get().job.num, message or repr(error))
                raise
            ending.failed(error)  # here, before Hydra prints all overrides
        if ending.parent and not ending.rank:
            handover.hand_over_value(ending.parent, value)
        return value

    return job


def message_of(error: Exception, verb: str) -> str | None:
    """Return the message for the user, or None if the user cannot fix the error."""
    return error.summary if isinstance(error, JobFailed) else explain(error, verb)
