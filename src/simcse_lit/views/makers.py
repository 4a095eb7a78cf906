"""What changes a view before the encoder sees it: the classes that a maker of views is made from.

There are three levels. A text maker changes the text, a token maker the token ids, and a device maker the padded ids of a
batch, where the model is. Write a subclass of one of them, and name it by `_target_` in `augmentation.makers` of a file of
`conf/augmentation/`.

Shapes: B examples, V views, L length.
"""

from collections.abc import Mapping, Sequence
from random import Random

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from simcse_lit.config.schema import ModelConfig


class TextMaker:
    """Changes a text before it is tokenised. It is pickled for the workers of a data loader."""

    def setup(self, tokenizer: PreTrainedTokenizerFast) -> None:
        """Note what the maker needs of the model's tokenizer, once, before any text is changed."""

    def __call__(self, text: str, rng: Random) -> str:
        """The changed text. Every draw is made from `rng`, which seed, epoch, example and view decide."""
        raise NotImplementedError(f"{type(self).__name__} has no __call__(text, rng)")


class TokenMaker:
    """Changes the tokens of a text, before they are cut to the greatest length. It is pickled as a text maker is."""

    def setup(self, tokenizer: PreTrainedTokenizerFast) -> None:
        """As `TextMaker.setup`."""

    def __call__(self, ids: list[int], rng: Random) -> list[int]:
        """The changed token ids. Those given are without special tokens, and so are those returned."""
        raise NotImplementedError(f"{type(self).__name__} has no __call__(ids, rng)")


class DeviceMaker:
    """Changes tokens of a batch in the training step, on the device that trains. Lengths stay.

    It draws from torch's generator, which seed, step and process decide.
    """

    def setup(self, tokenizer: PreTrainedTokenizerFast, model: ModelConfig, longest: int) -> None:
        """Load what the maker needs, once, before training.

        Args:
            tokenizer: the model's.
            model: the group `model` of `conf/`.
            longest: tokens of the longest sentence, with special tokens.

        Raises:
            UserError: it cannot be loaded, or does not fit the model.
        """

    def __call__(self, ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        """The changed token ids of one view, (B, L); those given are not changed.

        Args:
            ids_BL: token ids, (B, L).
            mask_BL: 1 for real tokens, (B, L).
        """
        raise NotImplementedError(f"{type(self).__name__} has no __call__(ids_BL, mask_BL)")


Maker = TextMaker | TokenMaker | DeviceMaker


def on_device(makers: Mapping[int, Sequence[DeviceMaker]], ids_BVL: Tensor, mask_BVL: Tensor) -> Tensor:
    """The ids of all views, (B, V, L), each changed by the makers of its number; the ids given are not changed."""
    if not makers:
        return ids_BVL
    views = list(ids_BVL.unbind(1))
    for number, those in makers.items():
        for maker in those:
            views[number] = maker(views[number], mask_BVL[:, number])
    return torch.stack(views, 1)
