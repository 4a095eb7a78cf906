"""A maker of views that works on tokens."""

from random import Random

from simcse_lit.views.makers import TokenMaker


class Repetition(TokenMaker):
    """Repeats some tokens, so that the length of a text tells less about its meaning.

    Args:
        rate: share of the tokens that is repeated at most.

    Source: Wu et al. 2021, ESimCSE, section 3.1.
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def __call__(self, ids: list[int], rng: Random) -> list[int]:
        """The tokens with a number of them repeated that is drawn from 0 to `rate` of them, at least 2."""
        most = min(len(ids), max(2, int(self.rate * len(ids))))
        repeated = set(rng.sample(range(len(ids)), rng.randint(0, most)))
        return [token for place, each in enumerate(ids) for token in [each] * (1 + (place in repeated))]
