"""A schedule of the learning rate."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


class Triangular(LambdaLR):
    """Raise the learning rate from 0 to the optimiser's and lower it to 0 again, several times in a run.

    Args:
        optimizer: the optimiser whose rate changes.
        steps: the number of steps of the run.
        warmup_steps: not used; the first half of each cycle is its warm-up.
        cycles: how often the rate rises.

    Source: Smith 2017, Cyclical Learning Rates for Training Neural Networks, figure 2.
    """

    def __init__(self, optimizer: Optimizer, steps: int, warmup_steps: int, cycles: int = 1) -> None:
        length = steps / cycles
        super().__init__(optimizer, lambda step: 1 - abs(2 * (step % length) / length - 1))
