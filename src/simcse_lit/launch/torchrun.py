"""`python -m simcse_lit.launch.torchrun ARGUMENTS`: torchrun without its log and without its banner when a rank fails.

A failing rank reports its error itself; this module only adds a message for a rank that was killed.
"""

import logging
import os
import sys
from pathlib import Path

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args, run

from simcse_lit.launch import handover
from simcse_lit.launch.processes import PARENT, describe_exit, die_with_parent


def main() -> None:
    """Start the ranks and wait for them; exit with 1 if one fails."""
    die_with_parent()
    os.environ[PARENT] = str(os.getpid())
    logging.disable(logging.CRITICAL)
    try:
        run(parse_args(sys.argv[1:]))
    except ChildFailedError as error:
        killed = {rank: failure.exitcode for rank, failure in error.failures.items() if failure.exitcode < 0}
        for rank, code in killed.items():
            handover.hand_over_error(Path(os.environ[handover.VARIABLE]), f"rank {rank}: {describe_exit(code)}")
        sys.exit(1)
    except SignalException as stop:
        sys.exit(128 + stop.sigval)


if __name__ == "__main__":
    main()
