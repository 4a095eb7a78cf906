"""ESimCSE: makers that repeat tokens or words of the positive, so that the length of a text says less about its meaning.

Its queue of negatives is `objective/queue.py` with `training.beside.Momentum`: see `conf/loss/esimcse.yaml`.
"""

from collections.abc import Sequence
from random import Random
from typing import TypeVar

from transformers import PreTrainedTokenizerFast

from simcse_lit.views.augmentation import WordMaker, share
from simcse_lit.views.makers import TokenMaker

MOST = 10  # fewer tokens than this are repeated
Item = TypeVar("Item")


class RepeatTokens(TokenMaker):
    """Repeat some tokens of a text, as the official code does.

    The text is cut to `data.max_length` first, so that up to nine tokens more are trained. Of a text of L tokens, special
    tokens included, n are repeated once, where n is drawn uniformly from 0 to min(10, floor(rate x L)) - 1. Special tokens
    are never repeated. Use `RepeatWords` for the rule of the paper.

    The official code draws once, when the corpus is tokenised. Here each epoch draws again, as in the paper.

    Args:
        rate: share of the tokens, between 0 and 1.

    Raises:
        ValueError: the rate is not between 0 and 1.

    Source: Wu et al. 2022, ESimCSE, section 3.1; `train.py` of its code, with the setting "bpe".
    """

    adds = MOST - 1

    def __init__(self, rate: float) -> None:
        self.rate = share(rate)

    def setup(self, tokenizer: PreTrainedTokenizerFast) -> None:
        """Store how many special tokens a text has."""
        self.special = int(tokenizer.num_special_tokens_to_add())

    def __call__(self, ids: list[int], rng: Random) -> list[int]:
        """Return the token ids with each repeated one after its original."""
        end = min(MOST, int(self.rate * (len(ids) + self.special)))
        return _repeated(ids, rng.randrange(end) if end > 1 else 0, rng)


class RepeatWords(WordMaker):
    """Repeat some words of a text: of N words n, drawn uniformly from 0 to max(2, floor(rate x N)).

    The text is cut to `data.max_length` tokens afterwards.

    Args:
        rate: share of the words, between 0 and 1.

    Raises:
        ValueError: the rate is not between 0 and 1.

    Source: Wu et al. 2022, ESimCSE, section 3.1. Not verified: the rule is recalled, and the official code has another.
    """

    def __init__(self, rate: float) -> None:
        self.rate = share(rate)

    def change(self, words: Sequence[str], rng: Random, *, spaced: bool) -> list[str]:
        """Return the words with each repeated one after its original."""
        return _repeated(words, rng.randint(0, max(2, int(self.rate * len(words)))), rng)


def _repeated(items: Sequence[Item], count: int, rng: Random) -> list[Item]:
    """Repeat `count` different items, or all if there are fewer."""
    chosen = set(rng.sample(range(len(items)), min(count, len(items))))
    return [item for place, item in enumerate(items) for _ in range(1 + (place in chosen))]
