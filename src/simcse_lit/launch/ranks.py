"""Runs one job on several devices, with a process for each, started by torchrun (here or by the user) or by srun.

The environment tells whether a process is a rank (`environment.py`). A process that is not starts all ranks and waits. All
ranks train, but only rank 0 writes. Lightning finds the variables of torchrun or SLURM and starts no processes.
"""

import os
import sys
from collections.abc import Sequence
from typing import Any

from hydra.core.hydra_config import HydraConfig

from simcse_lit.errors import UserError
from simcse_lit.launch.command import job_arguments, started_module
from simcse_lit.launch.devices import cores
from simcse_lit.launch.environment import rank
from simcse_lit.launch.meeting import together
from simcse_lit.launch.processes import Supervisor

GRACE_S = 40.0  # more than torchrun's 30 s, less than the launcher's grace


def silenced(arguments: Sequence[str]) -> list[str]:
    """Change a command line for a rank above 0, so that it makes no files and logs nothing twice."""
    kept = [argument for argument in arguments if not argument.startswith("hydra/job_logging=")]
    if not any(argument.startswith("hydra.run.dir=") for argument in kept):
        kept.append("hydra.run.dir=.")  # the run folder is rank 0's: agree_on_run_dir
    return [*kept, "hydra.output_subdir=null", "hydra/job_logging=rank"]


def start_ranks(command: str, devices: int, num_nodes: int) -> Any:
    """Run this Hydra job again as a group of `devices` processes, and return the value of rank 0.

    Args:
        command: module of the command, if Python was not started with -m.
        devices: processes of a node.
        num_nodes: number of nodes.

    Raises:
        UserError: a rank failed; or there are several nodes, on each of which the user must start the ranks.
    """
    module = started_module(command)
    if num_nodes > 1:
        raise UserError(
            f"trainer.num_nodes={num_nodes}: start this command on every node, with one process for each device:\n"
            f"  torchrun --nnodes {num_nodes} --nproc-per-node {devices} --rdzv-backend c10d \\\n"
            f"    --rdzv-endpoint HOST:29500 -m {module} ...\n"
            f"or once within a SLURM allocation:\n"
            f"  srun --nodes {num_nodes} --ntasks-per-node {devices} python -m {module} ..."
        )
    hydra = HydraConfig.get()
    torchrun = [sys.executable, "-m", "simcse_lit.launch.torchrun", "--standalone", "--nproc-per-node", str(devices)]
    # This process has already written .hydra.
    job = ["-m", module, *job_arguments(hydra, hydra.runtime.output_dir), "hydra.output_subdir=null"]
    threads = os.environ.get("OMP_NUM_THREADS", str(max(1, cores() // devices)))  # torchrun would set 1
    with Supervisor(grace=GRACE_S, announce=False) as supervisor:
        child = supervisor.start([*torchrun, *job], cwd=hydra.runtime.cwd, variables={"OMP_NUM_THREADS": threads})
        supervisor.ended()
    outcome = child.outcome()
    if outcome.error is not None:
        raise UserError(outcome.error)
    return outcome.value


def agree_on_run_dir(run_dir: str) -> str:
    """Return rank 0's run folder in every rank. Ranks started by hand have each composed another one, with another time.

    In a process that is no rank, return `run_dir`.

    Raises:
        UserError: the ranks do not find each other.
    """
    return run_dir if rank() is None else together(lambda: run_dir)[0]
