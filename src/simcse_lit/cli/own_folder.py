"""Checks the run folder before Hydra writes to it: a Hydra callback, listed in `conf/hydra/default.yaml`."""

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
    """A run or a sweep must not write to its folder. Hydra would only warn about another exception in a callback."""

    def __init__(self, error: UserError) -> None:
        super().__init__(1)
        self.error = error


class OwnFolder(Callback):
    """Gives each run a folder that holds no other run.

    A folder that the user did not name is new: `outputs/NAME/TIME`, or that with -2 after it. A named folder must be free,
    or hold the run that is resumed or the results of the same evaluation. Only one process may write to a run folder.
    """

    def __init__(self) -> None:
        self._held = ExitStack()

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check and lock the folder of a single run, or of a job in a separate process."""
        if config.hydra.output_subdir is None:  # no run folder, or another process has checked it
            return
        folder, verb = Path(str(config.hydra.run.dir)), str(config.hydra.job.config_name)
        resume = OmegaConf.select(config, "resume")
        try:
            if resume is None and not _named(config, "hydra.run.dir"):
                folder = claim(folder)
                with read_write(config.hydra):
                    config.hydra.run.dir = escaped(str(folder))
            folder.mkdir(parents=True, exist_ok=True)
            atexit.register(self._held.close)  # on_run_end is not called if the run fails
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
            pass  # Hydra cannot write there either and reports it

    def on_run_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Unlock the folder."""
        self._held.close()

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the folder of a sweep. In an existing one, the launcher `processes` resumes or skips each run."""
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
    """Return whether a folder holds the results of this very evaluation, which may then be repeated."""
    try:
        return bool(asdict(validate_evaluation(in_folder(config, folder))) == read_yaml(folder / "config.yaml"))
    except UserError:
        return False


def _named(config: DictConfig, key: str) -> bool:
    return any(word.startswith(f"{key}=") for word in as_given(config.hydra.overrides.hydra))
