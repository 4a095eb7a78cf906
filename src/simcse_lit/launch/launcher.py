"""Hydra's launcher `processes`: runs each job of a multirun as a single run in a separate process.

Jobs are isolated: one may use several devices (`ranks.py`), fail or run out of memory without affecting the others.
`conf/hydra/launcher/processes.yaml` configures it.
"""

import copy
import itertools
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus, configure_log, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from simcse_lit.config.checks.rules import composed_run
from simcse_lit.config.same_run import Finished, can_continue, finished_runs, identity, is_another
from simcse_lit.errors import UserError
from simcse_lit.launch import handover
from simcse_lit.launch.command import as_given, job_arguments
from simcse_lit.launch.devices import cores, visible_gpus
from simcse_lit.launch.environment import rank
from simcse_lit.launch.processes import Child, Supervisor

log = logging.getLogger(__name__)

GRACE_S = 50.0
WIDTH = 80


class JobFailed(UserError):
    """A job of a multirun failed. `summary` lists all failed jobs of its batch."""

    def __init__(self, message: str, failed: "list[Job]") -> None:
        super().__init__(message)
        self._failed = failed

    @property
    def summary(self) -> str:
        """One line for each failed job."""
        one = len(self._failed) == 1
        lines = [f"{len(self._failed)} {'job' if one else 'jobs'} failed:"]
        return "\n".join(lines + [f"  job {job.number}: {job.message.splitlines()[0]}" for job in self._failed])


class Returned(JobReturn):
    """A job's return to a sweeper.

    Hydra's class prints the overrides of a failed job when its value is read. This one does not, since the job was reported.
    """

    @property
    def return_value(self) -> Any:
        """The value; raises the job's exception if it failed."""
        if self.status == JobStatus.FAILED:
            raise self._return_value
        return self._return_value

    @return_value.setter
    def return_value(self, value: Any) -> None:
        self._return_value = value


@dataclass
class Job:
    """A job from its overrides to its end."""

    number: int
    config: DictConfig
    run_dir: Path
    devices: int
    on_gpu: bool
    title: str
    child: Child | None = None
    gpus: Sequence[str] = ()
    message: str = ""  # why it failed
    resolved: dict[str, Any] | None = None  # its configuration; None if it does not resolve, which the job reports

    @property
    def identity(self) -> str | None:
        """Equal for runs of the same configuration; None if the configuration does not resolve."""
        return None if self.resolved is None else identity(self.resolved)


class ProcessLauncher(Launcher):
    """Starts jobs in order, several side by side if possible, and returns when all have ended.

    A job that runs alone writes to the terminal. Jobs side by side write to `console.log` in their run folders. Two jobs
    never share a GPU.

    Args:
        jobs_at_once: a number; or auto for as many as the GPUs allow, and one on a CPU.
    """

    def __init__(self, jobs_at_once: int | str) -> None:
        if jobs_at_once != "auto" and not (isinstance(jobs_at_once, int) and jobs_at_once > 0):
            raise UserError(f"hydra.launcher.jobs_at_once={jobs_at_once}: must be 1 or more, or auto.")
        self._limit = None if jobs_at_once == "auto" else int(jobs_at_once)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra gives to a launcher."""
        if rank() is not None:
            raise UserError(
                "-m under torchrun or srun: each process would run the whole sweep.\n"
                "Run the multirun without them: a job with several devices starts its processes itself. If you did, remove\n"
                "leftover variables: env -u RANK -u SLURM_STEP_NUM_TASKS COMMAND"
            )
        self._context = hydra_context
        self._module = task_function.__module__
        self._config = config
        given = OverridesParser.create().parse_overrides(as_given(config.hydra.overrides.task))
        self._fixed = {override.get_key_element() for override in given if not override.is_sweep_override()}

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run one batch of a sweeper's jobs and return how each ended, in their order.

        Raises:
            UserError: a job needs more GPUs than there are.
            Stopped: a signal stopped all jobs.
        """
        setup_globals()
        configure_log(self._config.hydra.hydra_logging, self._config.hydra.verbose)
        jobs = [self._job(initial_job_idx + place, list(overrides)) for place, overrides in enumerate(job_overrides)]
        free = visible_gpus() if any(job.on_gpu for job in jobs) else []
        at_once = self._at_once(jobs, free)
        if len(jobs) > 1:
            where = os.path.relpath(self._config.hydra.sweep.dir)
            log.info("%d jobs%s below %s", len(jobs), f", {at_once} side by side," if at_once > 1 else "", where)
        done = finished_runs(Path(str(self._config.hydra.sweep.dir)))  # finished when this sweep ran before
        returns: dict[int, JobReturn] = {
            job.number: self._recall(job, done[job.identity]) for job in jobs if job.identity in done
        }
        waiting, running = [job for job in jobs if job.number not in returns], list[Job]()
        failed: list[Job] = []
        with Supervisor(grace=GRACE_S, announce=True) as supervisor:
            while waiting or running:
                while waiting and len(running) < at_once and (not waiting[0].on_gpu or waiting[0].devices <= len(free)):
                    job = waiting.pop(0)
                    if job.on_gpu:
                        job.gpus, free = free[: job.devices], free[job.devices :]
                    self._start(job, supervisor, at_once)
                    running.append(job)
                ended = supervisor.ended()
                for job in [job for job in running if job.child in ended]:
                    running.remove(job)
                    free += job.gpus
                    returns[job.number] = self._end(job, failed, live=at_once == 1)
        return [returns[job.number] for job in jobs]

    def _job(self, number: int, overrides: list[str]) -> Job:
        config = self._context.config_loader.load_sweep_config(self._config, overrides)
        with open_dict(config):
            config.hydra.job.id = str(number)
            config.hydra.job.num = number
        before = HydraConfig.instance().cfg
        HydraConfig.instance().set_config(config)  # for ${hydra:job.num} in the folder's name
        try:
            run_dir = Path(str(config.hydra.sweep.dir), str(config.hydra.sweep.subdir)).absolute()
            accelerator = OmegaConf.select(config, "trainer.accelerator") or OmegaConf.select(config, "device")
            devices = OmegaConf.select(config, "trainer.devices") or 1
            resolved = _resolved(config, run_dir)
        finally:
            HydraConfig.instance().cfg = before
        swept = [word for word in as_given(config.hydra.overrides.task) if word.partition("=")[0] not in self._fixed]
        on_gpu = accelerator in ("auto", "gpu", "cuda")
        if resolved is not None:  # never overwrite the run of another sweep in this folder
            first, copies = run_dir, itertools.count(2)
            while is_another(resolved, run_dir):
                run_dir = first.with_name(f"{first.name}-{next(copies)}")
                resolved = _resolved(config, run_dir) or resolved
        return Job(number, config, run_dir, devices, on_gpu, title=" ".join(swept), resolved=resolved)

    def _recall(self, job: Job, run: Finished) -> JobReturn:
        """Return the result of a job that an earlier run has already finished."""
        log.info("%s", cut(f"Job {job.number:<3} finished  {run.score:.2f} in {os.path.relpath(run.folder)}  {job.title}"))
        returned = self._returned(job)
        returned.status, returned.return_value = JobStatus.COMPLETED, run.score
        return returned

    def _at_once(self, jobs: list[Job], gpus: list[str]) -> int:
        if not gpus:
            for job in jobs:
                job.on_gpu = False
            return min(self._limit or 1, len(jobs))
        for job in jobs:
            if job.on_gpu and job.devices > len(gpus):
                raise UserError(
                    f"trainer.devices={job.devices}: only {len(gpus)} GPUs are visible. Use trainer.devices={len(gpus)} "
                    "or fewer."
                )
        fewest = min(job.devices for job in jobs if job.on_gpu)
        return min(self._limit or max(1, len(gpus) // fewest), len(jobs))

    def _start(self, job: Job, supervisor: Supervisor, at_once: int) -> None:
        live = at_once == 1
        variables: dict[str, str] = {}
        if job.on_gpu:
            variables["CUDA_VISIBLE_DEVICES"] = ",".join(job.gpus)
        if not live and "OMP_NUM_THREADS" not in os.environ:
            variables["OMP_NUM_THREADS"] = str(max(1, cores() // at_once // job.devices))
        if not live:
            job.run_dir.mkdir(parents=True, exist_ok=True)
        arguments = job_arguments(job.config.hydra, str(job.run_dir))
        if job.resolved and not job.resolved["resume"] and can_continue(job.resolved, job.run_dir):
            arguments.append("resume=auto")
        log.info("%s", cut(f"{chr(10) * live}Job {job.number:<3} {'' if live else 'started   '}{job.title}"))
        job.child = supervisor.start(
            [sys.executable, "-m", self._module, *arguments],
            cwd=self._config.hydra.runtime.cwd,
            variables=variables,
            console=None if live else job.run_dir / "console.log",
        )

    def _end(self, job: Job, failed: list[Job], *, live: bool) -> JobReturn:
        assert job.child is not None
        outcome = job.child.outcome()
        returned = self._returned(job)
        took = f"in {duration(job.child.seconds)}"
        if outcome.error is None:
            value = f"{outcome.value:.2f}" if isinstance(outcome.value, float) else str(outcome.value or "")
            log.info("Job %-3d done      %s", job.number, f"{value} {took}".lstrip())
            returned.status, returned.return_value = JobStatus.COMPLETED, outcome.value
        else:
            job.message = outcome.error
            handover.note_failure(job.run_dir, outcome.error)  # unless the job did
            failed.append(job)
            told = "" if live else ": " + outcome.error.replace("\n", "\n  ")
            log.error("Job %-3d failed    %s%s", job.number, took, told)
            returned.status, returned.return_value = JobStatus.FAILED, JobFailed(outcome.error, failed)
        return returned

    def _returned(self, job: Job) -> Returned:
        returned = Returned(
            overrides=as_given(job.config.hydra.overrides.task),
            hydra_cfg=OmegaConf.masked_copy(job.config, "hydra"),
            working_dir=self._config.hydra.runtime.cwd,
            task_name=job.config.hydra.job.name,
        )
        returned.cfg = copy.deepcopy(job.config)
        with open_dict(returned.cfg):
            del returned.cfg["hydra"]
        return returned


def _resolved(config: DictConfig, run_dir: Path) -> dict[str, Any] | None:
    """Return a job's configuration as its config.yaml will hold it; None if it is not a training or does not resolve."""
    try:
        return asdict(composed_run(config, run_dir)) if "resume" in config else None
    except UserError:
        return None


def cut(line: str) -> str:
    """Shorten a line to the width of a terminal."""
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 3]}..."


def duration(seconds: float) -> str:
    """Format seconds: 35 s, 4 min 10 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole // 60 % 60:02d} min"
