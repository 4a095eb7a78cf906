"""One job on several devices: a process each, which torchrun starts, here or by the user's own hand, or srun.

A process is a rank when its environment says so (`environment.py`). One that is none starts them all and waits; a rank
trains, and only rank 0 writes. Lightning finds torchrun's or SLURM's variables and starts nothing itself.
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

GRACE_S = 40.0  # more than the 30 s that torchrun gives its ranks, less than the launcher gives this process


def silenced(arguments: Sequence[str]) -> list[str]:
    """A command line for a rank above 0: it makes no file and no folder, and nothing is said twice."""
    kept = [argument for argument in arguments if not argument.startswith("hydra/job_logging=")]
    if not any(argument.startswith("hydra.run.dir=") for argument in kept):
        kept.append("hydra.run.dir=.")  # rank 0 has the run folder: agree_on_run_dir
    return [*kept, "hydra.output_subdir=null", "hydra/job_logging=rank"]


def start_ranks(command: str, devices: int, num_nodes: int) -> Any:
    """Run this job of Hydra's once more, as `devices` processes of one group, and return what its rank 0 does.

    Args:
        command: the command's module, if Python was not told it with -m.
        devices: processes of a node.
        num_nodes: machines.

    Raises:
        UserError: a rank failed; or there are several nodes, on each of which the ranks must be started.
    """
    module = started_module(command)
    if num_nodes > 1:
        raise UserError(
            f"trainer.num_nodes={num_nodes}: start this command on every node, with one process a device:\n"
            f"  torchrun --nnodes {num_nodes} --nproc-per-node {devices} --rdzv-backend c10d \\\n"
            f"    --rdzv-endpoint HOST:29500 -m {module} ...\n"
            f"or, within a SLURM allocation, once:\n"
            f"  srun --nodes {num_nodes} --ntasks-per-node {devices} python -m {module} ..."
        )
    hydra = HydraConfig.get()
    torchrun = [sys.executable, "-m", "simcse_lit.launch.torchrun", "--standalone", "--nproc-per-node", str(devices)]
    # .hydra was written by this process.
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
    """Rank 0's run folder, for every rank: started by hand, each has composed one of its own, with its own time.

    Returns at once in a process that is no rank.

    Raises:
        UserError: the ranks do not find each other.
    """
    return run_dir if rank() is None else together(lambda: run_dir)[0]
