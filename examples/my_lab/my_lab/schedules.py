"""A schedule of the learning rate."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


class Triangular(LambdaLR):
    """The rate rises from 0 to the optimiser's and falls back to 0, several times in a run.

    Args:
        optimizer: whose rate it is.
        steps: of the run.
        warmup_steps: in which the rate rises; it falls in as many, unless there are none.
        cycles: how often it rises.

    Source: Smith 2017, Cyclical Learning Rates for Training Neural Networks, figure 2.
    """

    def __init__(self, optimizer: Optimizer, steps: int, warmup_steps: int, cycles: int = 1) -> None:
        length = steps / cycles
        super().__init__(optimizer, lambda step: 1 - abs(2 * (step % length) / length - 1))
