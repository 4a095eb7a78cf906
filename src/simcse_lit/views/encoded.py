"""From the texts of an example to the token ids of its views: those that stay, tokenised once, and those that makers change.

Shapes: V views of an example.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from random import Random

import pyarrow as pa
from transformers import PreTrainedTokenizerFast

from simcse_lit.text.template import PLACE, Template
from simcse_lit.text.tokens import TokenCounts, token_ids
from simcse_lit.views.makers import TextMaker, TokenMaker
from simcse_lit.views.view import View

IDS, TEXT = "view", "text"  # the columns of a tokenised corpus: view0, view1, ... and the texts that makers need, text0, ...


class EncodedViews:
    """The views of an example as columns of token ids.

    A batch has the columns view0, view1, ...: first a column for each text that no maker changes, however many views read
    it, and behind these one for each view that a maker changes.

    Args:
        views: of an example.
        tokenizer: the model's.
        max_length: tokens of a sentence, with special tokens.

    Attributes:
        stored: the texts that no maker changes, as places in `data.columns`.
        kept: places in `data.columns` whose texts the makers need.
        made: numbers of the views that makers change.
        places: which column of a batch each view reads, V numbers.
    """

    def __init__(self, views: Sequence[View], tokenizer: PreTrainedTokenizerFast, max_length: int) -> None:
        self.views = tuple(views)
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.stored = tuple(dict.fromkeys(view.column for view in views if not view.changes))
        self.kept = tuple(dict.fromkeys(view.column for view in views if view.changes))
        self.made = tuple(number for number, view in enumerate(views) if view.changes)
        self.places = tuple(
            len(self.stored) + self.made.index(number) if view.changes else self.stored.index(view.column)
            for number, view in enumerate(views)
        )

    def stored_ids(self, rows: Sequence[Sequence[str]], counts: TokenCounts | None = None) -> dict[str, pa.Array]:
        """Token ids of the texts that stay, view0 and on, lists of int32.

        Args:
            rows: the texts of each example, in the order of `data.columns`.
            counts: to which texts that were cut, or of which nothing was left, are added.
        """
        columns = list(zip(*rows, strict=True))
        ids = (token_ids(columns[column], self.tokenizer, self.max_length, counts) for column in self.stored)
        return {f"{IDS}{place}": pa.array(each, pa.list_(pa.int32())) for place, each in enumerate(ids)}

    def made_ids(self, texts: Mapping[int, Sequence[str]], draw: Callable[[int, int], Random]) -> dict[str, pa.Array]:
        """Token ids that the makers make, in the columns behind those of `stored_ids`.

        Args:
            texts: of the examples, by place in `data.columns`.
            draw: what an example's view is drawn from, by their places in the batch and among the views.
        """
        made = {}
        for place, number in enumerate(self.made, start=len(self.stored)):
            view = self.views[number]
            of_examples = texts[view.column]
            generators = [draw(example, number) for example in range(len(of_examples))]
            ids = self._ids(view, of_examples, generators)
            made[f"{IDS}{place}"] = pa.array(ids, pa.list_(pa.int32()))
        return made

    def unchanged(self, number: int, text: str, generator: Random) -> bool:
        """Whether the makers of a view leave a text as it is."""
        view = self.views[number]
        changed, ids = self._changed(view, [text], [generator])
        return changed[0].split() == text.split() and (ids is None or ids == self._frame.uncut([text]))

    @cached_property
    def _frame(self) -> Template:
        return Template(PLACE, self.tokenizer)

    def _ids(self, view: View, texts: Sequence[str], generators: Sequence[Random]) -> list[list[int]]:
        changed, ids = self._changed(view, texts, generators)
        if ids is None:
            found = token_ids(changed, self.tokenizer, self.max_length)
        else:
            found = [self._frame.around(each, self.max_length) for each in ids]
        return [each or [int(self.tokenizer.pad_token_id)] for each in found]  # a decoder's text may be empty

    def _changed(
        self, view: View, texts: Sequence[str], generators: Sequence[Random]
    ) -> tuple[Sequence[str], list[list[int]] | None]:
        """The texts behind the text makers, and their token ids behind the token makers; None without these."""
        ids: list[list[int]] | None = None
        for maker in view.changes:
            if isinstance(maker, TextMaker):
                texts = [maker(text, generator) for text, generator in zip(texts, generators, strict=True)]
            elif isinstance(maker, TokenMaker):
                plain = self._frame.uncut(texts) if ids is None else ids
                ids = [maker(each, generator) for each, generator in zip(plain, generators, strict=True)]
        return texts, ids
