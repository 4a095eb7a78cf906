"""Reads from the environment whether torchrun or srun started this process as one of several, and as which."""

import os

from simcse_lit.errors import UserError
from simcse_lit.launch.processes import RANK_VARIABLES

SHELLS = ("bash", "interactive")  # names of SLURM jobs that are shells, as in Lightning


def rank() -> int | None:
    """Return this process's rank among those that train together; None if it is no rank."""
    if "RANK" in os.environ:
        return _number("RANK")
    return _number("SLURM_PROCID") if _started_by_srun() else None


def processes() -> int:
    """Return the number of processes that train together; 1 if this process is no rank."""
    name = "WORLD_SIZE" if "RANK" in os.environ else "SLURM_STEP_NUM_TASKS"
    return 1 if rank() is None else _number(name) or 1


def check(devices: int, num_nodes: int) -> None:
    """Compare the environment of this process with the configuration.

    In a process that is no rank, variables of ranks (from a shell of srun or a container) are removed, so that no library
    takes the process for a rank.

    Args:
        devices: processes of a node.
        num_nodes: number of nodes.

    Raises:
        UserError: some variable makes the process a rank, but others are missing or contradict it or the configuration.
    """
    if "RANK" in os.environ:
        _check_torchrun()
    elif not _started_by_srun():
        for name in RANK_VARIABLES:
            os.environ.pop(name, None)
        return
    started, wanted = processes(), devices * num_nodes
    if started != wanted:
        by = f"WORLD_SIZE={started}" if "RANK" in os.environ else f"srun: {started} tasks"
        alone = " -u ".join(["env", *(name for name in ("RANK", "SLURM_STEP_NUM_TASKS") if name in os.environ)])
        raise UserError(
            f"{by}: but trainer.devices={devices} trainer.num_nodes={num_nodes} need {wanted} processes. Make both "
            f"equal, or run without torchrun or srun: {alone} COMMAND"
        )


def _check_torchrun() -> None:
    world_size = _number("WORLD_SIZE")
    needed = ["RANK", "WORLD_SIZE"]
    if world_size != 1:
        needed += ["LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"]
    wrong = [name for name in needed if not os.environ.get(name) or (_number(name) is None and name != "MASTER_ADDR")]
    if wrong:
        says = ", ".join(f"{name}={os.environ[name]}" if os.environ.get(name) else f"no {name}" for name in wrong)
        if "RANK" not in wrong:
            says = f"RANK={os.environ['RANK']}, but {says}"
        raise UserError(
            f"{says}: RANK is set by torchrun for the processes it starts. "
            "Run without torchrun: env -u RANK COMMAND; or with it: torchrun ... -m simcse_lit.train"
        )
    if not 0 <= (rank() or 0) < (world_size or 0):
        raise UserError(
            f"RANK={os.environ['RANK']} WORLD_SIZE={world_size}: a rank must be between 0 and {(world_size or 0) - 1}. "
            "Run without torchrun: env -u RANK COMMAND"
        )


def _started_by_srun() -> bool:
    """Return whether this process is one of several tasks of srun, and not started in a shell of `srun --pty`.

    A shell's variables are those of its step, and a process started in it inherits them. A task recognises itself by its
    process id, or by a rank above 0, since a shell is task 0.
    """
    if (_number("SLURM_STEP_NUM_TASKS") or 1) < 2:  # set by srun for its tasks, not by sbatch
        return False
    in_shell = os.environ.get("SLURM_JOB_NAME") in SHELLS or "SLURM_PTY_PORT" in os.environ
    itself = _number("SLURM_TASK_PID") == os.getpid() or (_number("SLURM_PROCID") or 0) > 0
    return itself or not in_shell


def _number(name: str) -> int | None:
    """Return a variable as a non-negative integer, or None."""
    value = os.environ.get(name, "")
    return int(value) if value.isascii() and value.isdecimal() else None
