"""The base classes of makers, which change a view before the encoder sees it.

There are three levels. A text maker changes the text, a token maker the token ids, and a device maker the padded ids of a
batch, on the device of the model. Write a subclass of one of them, and name it as `_target_` in `augmentation.makers` or in
`data.views`. `augmentation.py` and `replacement.py` have our makers.

Shapes: B examples, V views, L length.
"""

from collections.abc import Mapping, Sequence
from random import Random

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from simcse_lit.config.schema import ModelConfig


class TextMaker:
    """Change a text before it is tokenised. The object is pickled for the workers of a data loader."""

    def setup(self, tokenizer: PreTrainedTokenizerFast) -> None:
        """Store what the maker needs from the tokenizer. Runs once, before any text is changed."""

    def __call__(self, text: str, rng: Random) -> str:
        """Change a text.

        Args:
            text: the text of the view.
            rng: generator for every draw. Seed, epoch, example and view decide it.

        Returns:
            The changed text.
        """
        raise NotImplementedError(f"{type(self).__name__} has no __call__(text, rng)")


class TokenMaker:
    """Change the tokens of a text before they are cut to `data.max_length`. The object is pickled, like a text maker.

    Attributes:
        adds: number of tokens by which the changed text may exceed `data.max_length`. Above 0, the text is cut before the
            first token maker too.
    """

    adds: int = 0

    def setup(self, tokenizer: PreTrainedTokenizerFast) -> None:
        """Store what the maker needs from the tokenizer: see `TextMaker.setup`."""

    def __call__(self, ids: list[int], rng: Random) -> list[int]:
        """Change token ids. Their number may change.

        Args:
            ids: token ids without special tokens.
            rng: generator for every draw. Seed, epoch, example and view decide it.

        Returns:
            New token ids without special tokens.
        """
        raise NotImplementedError(f"{type(self).__name__} has no __call__(ids, rng)")


class DeviceMaker:
    """Change tokens of a batch in the training step, on the device that trains. Lengths stay the same.

    Draw from torch's generator. Seed, step and process decide its state.
    """

    def setup(self, tokenizer: PreTrainedTokenizerFast, model: ModelConfig, longest: int) -> None:
        """Load what the maker needs. Runs once, before training.

        Args:
            tokenizer: tokenizer of the model.
            model: the group `model` of the configuration.
            longest: tokens of the longest sentence, with special tokens.

        Raises:
            UserError: something cannot be loaded, or does not fit the model.
        """

    def __call__(self, ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        """Change the token ids of one view.

        Args:
            ids_BL: token ids, (B, L). They must not be changed in place.
            mask_BL: 1 for real tokens, (B, L).

        Returns:
            New token ids, (B, L).
        """
        raise NotImplementedError(f"{type(self).__name__} has no __call__(ids_BL, mask_BL)")


Maker = TextMaker | TokenMaker | DeviceMaker


def on_device(makers: Mapping[int, Sequence[DeviceMaker]], ids_BVL: Tensor, mask_BVL: Tensor) -> Tensor:
    """Apply device makers to the views of a batch.

    Args:
        makers: the makers of each view, by its number.
        ids_BVL: token ids, (B, V, L). They are not changed.
        mask_BVL: 1 for real tokens, (B, V, L).

    Returns:
        New token ids, (B, V, L).
    """
    if not makers:
        return ids_BVL
    views = list(ids_BVL.unbind(1))
    for number, those in makers.items():
        for maker in those:
            views[number] = maker(views[number], mask_BVL[:, number])
    return torch.stack(views, 1)
