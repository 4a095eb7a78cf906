"""Decides whose the run folder is, before Hydra writes to it: a callback of Hydra's in `conf/hydra/default.yaml`."""

import atexit
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, read_write

from simcse_lit.config.as_typed import escaped
from simcse_lit.config.checks.evaluate import validate_evaluation
from simcse_lit.config.checks.rules import composed_run, in_folder
from simcse_lit.config.earlier import read_yaml
from simcse_lit.config.folders import check_free, claim, clear_leftovers
from simcse_lit.config.replay import check_targets
from simcse_lit.config.resume import holds_this_run
from simcse_lit.errors import UserError
from simcse_lit.launch.command import as_given
from simcse_lit.one_writer import only_writer

LOCK = ".running.lock"


class Refused(SystemExit):
    """A run or a sweep may not write to its folder. Hydra would only warn of an exception in a callback."""

    def __init__(self, error: UserError) -> None:
        super().__init__(1)
        self.error = error


class OwnFolder(Callback):
    """Gives each run a folder that holds no other run.

    A folder that the user did not name is new: `outputs/NAME/TIME`, or that with -2 behind it. One that was named holds
    nothing that would be lost, or the run that is continued, or the results of the same evaluation. While the run goes on,
    no other one may write there.
    """

    def __init__(self) -> None:
        self._held = ExitStack()

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """See to the folder of a single run, or of a job in a process of its own."""
        if config.hydra.output_subdir is None:  # no run folder: another verb, or another process has seen to it
            return
        folder, verb = Path(str(config.hydra.run.dir)), str(config.hydra.job.config_name)
        resume = OmegaConf.select(config, "resume")
        try:
            if resume is None and not _named(config, "hydra.run.dir"):
                folder = claim(folder)
                with read_write(config.hydra):
                    config.hydra.run.dir = escaped(str(folder))
            folder.mkdir(parents=True, exist_ok=True)
            atexit.register(self._held.close)  # on_run_end is not called for a run that fails
            self._held.enter_context(only_writer(folder / LOCK, f"hydra.run.dir={folder}"))
            if resume is not None:
                check_targets(config, as_given(config.hydra.overrides.task))
            if resume is None or not holds_this_run(composed_run(config, folder)):
                if verb != "evaluate" or not _made_here(config, folder):
                    check_free(folder, "hydra.run.dir", verb)
                clear_leftovers(folder)
        except UserError as error:
            raise Refused(error) from error
        except OSError:
            pass  # Hydra cannot write there either, and says so

    def on_run_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Let others write to the folder."""
        self._held.close()

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """See to the folder of a sweep. Of one that is there, the launcher `processes` continues or spares each run."""
        folder = Path(str(config.hydra.sweep.dir))
        try:
            if not _named(config, "hydra.sweep.dir"):
                folder = claim(folder)
                with read_write(config.hydra):
                    config.hydra.sweep.dir = escaped(str(folder))
            elif config.hydra.runtime.choices["hydra/launcher"] != "processes" and config.get("resume") is None:
                for run in folder.glob("*/.hydra"):
                    check_free(run.parent, "hydra.sweep.dir", str(config.hydra.job.config_name))
        except UserError as error:
            raise Refused(error) from error
        except OSError:
            pass


def _made_here(config: DictConfig, folder: Path) -> bool:
    """Whether a folder holds the results of the very evaluation that is asked for; it may then be made again."""
    try:
        return bool(asdict(validate_evaluation(in_folder(config, folder))) == read_yaml(folder / "config.yaml"))
    except UserError:
        return False


def _named(config: DictConfig, key: str) -> bool:
    return any(word.startswith(f"{key}=") for word in as_given(config.hydra.overrides.hydra))
