"""What the environment says of this process: whether torchrun or srun has started it as one of several, and which."""

import os

from simcse_lit.errors import UserError
from simcse_lit.launch.processes import RANK_VARIABLES

SHELLS = ("bash", "interactive")  # names of SLURM jobs that Lightning, too, takes for a shell


def rank() -> int | None:
    """This process's place among those that train together; None if it is no rank."""
    if "RANK" in os.environ:
        return _number("RANK")
    return _number("SLURM_PROCID") if _started_by_srun() else None


def processes() -> int:
    """How many train together; 1 without a rank."""
    name = "WORLD_SIZE" if "RANK" in os.environ else "SLURM_STEP_NUM_TASKS"
    return 1 if rank() is None else _number(name) or 1


def check(devices: int, num_nodes: int) -> None:
    """Compare what the environment says of this process with what the configuration asks for.

    What is left over in the environment of a process that is no rank (a shell of srun's, a container) is removed, so that
    no library takes the process for one.

    Args:
        devices: processes of a node.
        num_nodes: machines.

    Raises:
        UserError: the process is a rank by some variable, and others that it needs are missing or contradict it.
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
            f"{by}: but trainer.devices={devices} trainer.num_nodes={num_nodes} are {wanted} processes. Let both be the "
            f"same, or start this command by itself: {alone} COMMAND"
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
            f"{says}: RANK is for the processes that torchrun starts. "
            "Start this command by itself: env -u RANK COMMAND; or all of them: torchrun ... -m simcse_lit.train"
        )
    if not 0 <= (rank() or 0) < (world_size or 0):
        raise UserError(
            f"RANK={os.environ['RANK']} WORLD_SIZE={world_size}: ranks are counted from 0 to {(world_size or 0) - 1}. "
            "Start this command by itself: env -u RANK COMMAND"
        )


def _started_by_srun() -> bool:
    """Whether this process is one of several tasks of srun's, and not typed in a shell that srun --pty started.

    The variables of such a shell are those of its step. A task that is started from it inherits them, and knows itself by
    its process id, or by its place: a shell is task 0.
    """
    if (_number("SLURM_STEP_NUM_TASKS") or 1) < 2:  # srun sets it for its tasks alone, sbatch does not
        return False
    in_shell = os.environ.get("SLURM_JOB_NAME") in SHELLS or "SLURM_PTY_PORT" in os.environ
    itself = _number("SLURM_TASK_PID") == os.getpid() or (_number("SLURM_PROCID") or 0) > 0
    return itself or not in_shell


def _number(name: str) -> int | None:
    """The variable as a number from 0; None if it is none."""
    value = os.environ.get(name, "")
    return int(value) if value.isascii() and value.isdecimal() else None
