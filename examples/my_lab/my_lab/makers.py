"""A maker that changes the tokens of the positive."""

from random import Random

from simcse_lit.views.makers import TokenMaker


class Repetition(TokenMaker):
    """Repeat some tokens, so that the length of a text says less about its meaning.

    Args:
        rate: the largest share of the tokens that is repeated.

    Source: Wu et al. 2021, ESimCSE, section 3.1.
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def __call__(self, ids: list[int], rng: Random) -> list[int]:
        """Repeat a random number of tokens: from 0 to the larger of 2 and `rate` times their number.

        Args:
            ids: token ids without special tokens.
            rng: decides every draw.

        Returns:
            The token ids, with each repeated one after its original.
        """
        most = min(len(ids), max(2, int(self.rate * len(ids))))
        repeated = set(rng.sample(range(len(ids)), rng.randint(0, most)))
        return [token for place, each in enumerate(ids) for token in [each] * (1 + (place in repeated))]
