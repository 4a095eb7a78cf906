"""A corpus with views that are made again in every epoch."""

from typing import Any

import pyarrow as pa

from simcse_lit.text.corpus import Corpus
from simcse_lit.views.encoded import TEXT, EncodedViews

COMPARED = 10_000  # texts with which makers are tried


class ChangingCorpus(Corpus):
    """A corpus with views that makers change. Seed, epoch, example and view decide what they draw.

    Args:
        dataset: tokenised corpus, with the texts that the makers need.
        seed: seed of the draws.
        views: the views of an example.
    """

    def __init__(self, dataset: Any, seed: int, views: EncodedViews) -> None:
        super().__init__(dataset, seed)
        self.views = views

    def unchanged(self) -> tuple[int, int]:
        """Count the examples that the makers do not change in the first epoch.

        Returns:
            This count, and the number of examples that were compared, at most `COMPARED`.
        """
        step = -(-len(self) // COMPARED)
        rows = range(0, len(self), step)
        table = self.dataset[list(rows)]
        made = [(number, table[f"{TEXT}{self.views.views[number].column}"].to_pylist()) for number in self.views.made]
        same = (
            all(self.views.unchanged(number, texts[place], self.generator(row, number)) for number, texts in made)
            for place, row in enumerate(rows)
        )
        return sum(same), len(rows)

    def __getitems__(self, indices: list[int]) -> pa.Table:
        table = super().__getitems__(indices)
        texts = {column: table[f"{TEXT}{column}"].to_pylist() for column in self.views.kept}
        stored = {name: table[name] for name in table.column_names if not name.startswith(TEXT)}
        made = self.views.made_ids(texts, lambda place, view: self.generator(indices[place], view))
        return pa.table(stored | made)
