"""From the texts of an example to the token ids of its views.

Texts that no maker changes are tokenised once. Texts that makers change are tokenised in every epoch.

Shapes: V views of an example.
"""

from collections.abc import Callable, Mapping, Sequence
from random import Random

import pyarrow as pa
from transformers import PreTrainedTokenizerFast

from simcse_lit.config.roles import PLACE
from simcse_lit.text.prompts import Prompts, of_views
from simcse_lit.text.template import Template
from simcse_lit.text.tokens import TokenCounts, token_ids
from simcse_lit.views.makers import TextMaker, TokenMaker
from simcse_lit.views.view import View

IDS, TEXT = "view", "text"  # the columns of a tokenised corpus: view0, view1, ... and the texts that makers need, text0, ...


def ids_of(name: str) -> str:
    """Return how the columns of token ids begin that an encoder of `loss.beside` reads; "" is the trained one."""
    return f"{IDS}.{name}." if name else IDS


class EncodedViews:
    """The views of an example as columns of token ids.

    A batch has the columns view0, view1, and so on: first one column for each text that no maker changes, even if several
    views read it; then one column for each view that a maker changes. Encoders beside the trained one that have another
    tokenizer read such columns of their own, with the name of the encoder: view.NAME.0.

    Args:
        views: the views of an example.
        tokenizer: tokenizer of the model.
        max_length: tokens of a sentence, with special tokens.
        counted: `max_length` includes the template. Otherwise the template is added to it.
        optional: places in `data.columns` whose text may be "". No maker changes it.
        name: name of the encoder that reads these columns; "" for the trained one.

    Attributes:
        others: the same views for encoders with other tokenizers, by name.
        stored: texts that no maker changes, as places in `data.columns`, and their templates.
        kept: places in `data.columns` whose texts the makers need.
        made: numbers of the views that makers change.
        places: the column of a batch that each view reads, V numbers.
        longest: tokens of the longest sentence, with its template.
        empty: token ids of "", by the number of a column of a batch that may contain it.

    Raises:
        UserError: the tokenizer has no token that a template needs, or a template leaves no room for a sentence.
    """

    def __init__(
        self,
        views: Sequence[View],
        tokenizer: PreTrainedTokenizerFast,
        max_length: int,
        *,
        counted: bool = False,
        optional: Sequence[int] = (),
        name: str = "",
    ) -> None:
        self.ids = ids_of(name)
        self.others: dict[str, EncodedViews] = {}
        self.views = tuple(views)
        self.tokenizer = tokenizer
        self.templates = {text: Template(text, tokenizer) for view in views if (text := view.template) is not None}
        self._frame = Template(PLACE, tokenizer)
        self._longest: dict[str | None, int] = {None: max_length}
        self._longest |= {text: each.longest(max_length, counted=counted) for text, each in self.templates.items()}
        self.longest = max(self._longest[view.template] + view.adds for view in views)
        self.stored = tuple(dict.fromkeys((view.column, view.template) for view in views if not view.changes))
        self.kept = tuple(dict.fromkeys(view.column for view in views if view.changes))
        self.made = tuple(number for number, view in enumerate(views) if view.changes)
        self.places = tuple(
            len(self.stored) + self.made.index(number) if view.changes else self.stored.index((view.column, view.template))
            for number, view in enumerate(views)
        )

        self._optional = frozenset(optional)
        self.empty = {
            place: (self._encoded([""], view.template)[0] or [int(tokenizer.pad_token_id)])
            for place, view in zip(self.places, self.views, strict=True)
            if view.column in self._optional
        }

    def stored_ids(self, rows: Sequence[Sequence[str]], counts: TokenCounts | None = None) -> dict[str, pa.Array]:
        """Tokenise the texts that no maker changes, for the columns from view0.

        Args:
            rows: the texts of each example, in the order of `data.columns`.
            counts: counts of texts that were cut or became empty, which are updated.

        Returns:
            Lists of int32 by column.
        """
        columns, found, counted = list(zip(*rows, strict=True)), {}, set[int]()
        for place, (column, template) in enumerate(self.stored):
            ids = self._encoded(columns[column], template, None if column in counted | self._optional else counts)
            if column in self._optional:
                ids = [each or self.empty[place] for each in ids]
            found[f"{self.ids}{place}"] = pa.array(ids, pa.list_(pa.int32()))
            counted.add(column)
        for other in self.others.values():
            found |= other.stored_ids(rows)
        return found

    def made_ids(self, texts: Mapping[int, Sequence[str]], draw: Callable[[int, int], Random]) -> dict[str, pa.Array]:
        """Run the makers, for the columns after those of `stored_ids`.

        Args:
            texts: texts of the examples, by place in `data.columns`.
            draw: returns the generator of an example and a view, from their places in the batch and among the views.

        Returns:
            Lists of int32 by column.
        """
        made = {}
        for place, number in enumerate(self.made, start=len(self.stored)):
            view = self.views[number]
            of_examples = texts[view.column]
            generators = [draw(example, number) for example in range(len(of_examples))]
            ids = self._ids(view, of_examples, generators)
            made[f"{self.ids}{place}"] = pa.array(ids, pa.list_(pa.int32()))
        for other in self.others.values():
            made |= other.made_ids(texts, draw)
        return made

    @property
    def pad_ids(self) -> dict[str, int]:
        """The id of the padding token of each other tokenizer, by name."""
        return {name: int(other.tokenizer.pad_token_id) for name, other in self.others.items()}

    @property
    def stored_columns(self) -> list[str]:
        """Names of the columns of `stored_ids`, also of the other tokenizers."""
        return [f"{ids}{place}" for ids in self.all_ids for place in range(len(self.stored))]

    @property
    def all_ids(self) -> list[str]:
        """Beginnings of the names of the columns, first of the own tokenizer, then of the others."""
        return [self.ids, *(other.ids for other in self.others.values())]

    def unchanged(self, number: int, text: str, generator: Random) -> bool:
        """Tell whether the makers of a view do not change a text."""
        view = self.views[number]
        changed, ids = self._changed(view, [text], [generator])
        return changed[0].split() == text.split() and (ids is None or ids == self._plain(view, [text]))

    @property
    def anchor_template(self) -> Template | None:
        """The template of the anchor; None without one."""
        template = next(view.template for view in self.views if view.role == "anchor")
        return None if template is None else self.templates[template]

    @property
    def prompts(self) -> Prompts:
        """The templates of anchors and positives, as prompts for use."""
        templates = {view.role: view.template for view in reversed(self.views)}  # the first view of each role
        return of_views(templates["anchor"], templates.get("positive", templates["anchor"]))

    @property
    def behind_mask(self) -> int | None:
        """Number of tokens after the mask token of the templates; None unless all views have the same number."""
        found = {view.template and self.templates[view.template].behind_mask for view in self.views}
        return next(iter(found)) if len(found) == 1 else None  # type: ignore[return-value]

    @property
    def around(self) -> tuple[int, int] | None:
        """Numbers of tokens before and after a sentence, with special tokens; None unless all views have the same ones."""
        shapes = (self._template(view) for view in self.views)
        found = {(len(template.prefix_ids), len(template.suffix_ids)) for template in shapes}
        return next(iter(found)) if len(found) == 1 else None

    def _encoded(self, texts: Sequence[str], template: str | None, counts: TokenCounts | None = None) -> list[list[int]]:
        longest = self._longest[template]
        if template is None:
            return token_ids(texts, self.tokenizer, longest, counts)
        return self.templates[template].encode(texts, longest, counts)

    def _template(self, view: View) -> Template:
        """Return the template of a view, or the special tokens alone."""
        return self._frame if view.template is None else self.templates[view.template]

    def _plain(self, view: View, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids that token makers change, without special tokens."""
        template = self._template(view)
        plain = template.uncut(texts)
        return [template.cut(each, self._longest[view.template]) for each in plain] if view.adds else plain

    def _ids(self, view: View, texts: Sequence[str], generators: Sequence[Random]) -> list[list[int]]:
        changed, ids = self._changed(view, texts, generators)
        if ids is None:
            found = self._encoded(changed, view.template)
        else:
            template = self._template(view)
            found = [template.around(each, self._longest[view.template] + view.adds) for each in ids]
        return [each or [int(self.tokenizer.pad_token_id)] for each in found]  # the text of a decoder may be empty

    def _changed(
        self, view: View, texts: Sequence[str], generators: Sequence[Random]
    ) -> tuple[Sequence[str], list[list[int]] | None]:
        """Return the texts after the text makers, and the token ids after the token makers; None without token makers."""
        ids: list[list[int]] | None = None
        for maker in view.changes:
            if isinstance(maker, TextMaker):
                texts = [maker(text, generator) if text else text for text, generator in zip(texts, generators, strict=True)]
            elif isinstance(maker, TokenMaker):
                plain = self._plain(view, texts) if ids is None else ids
                ids = [maker(each, generator) if each else each for each, generator in zip(plain, generators, strict=True)]
        return texts, ids
