"""Training batches from a corpus that is never stored: read, checked, shuffled in a buffer and tokenised on the fly.

Local files are read by `sources.py`, so their rows and messages are those of an ordinary run; hf:// locations through the
streaming mode of `datasets`. Every rank reads the same rows in the same order and keeps its share.
Called by `datamodule.py`.
"""

import logging
import random
from collections.abc import Iterator
from itertools import chain, islice

from torch import Tensor
from torch.utils.data import IterableDataset
from transformers import PreTrainedTokenizerFast

from simcse_lit.config.schema import DataConfig
from simcse_lit.data.collation import ViewCollator
from simcse_lit.errors import UserError
from simcse_lit.seeds import derived_seed
from simcse_lit.text.hub import open_stream
from simcse_lit.text.rows import SHOWN, BadRows, Readable, Row, text_rows
from simcse_lit.text.sources import open_sources
from simcse_lit.text.tokens import token_table
from simcse_lit.views.augmentation import Augment

log = logging.getLogger(__name__)

KEY = "data.train_file"


class StreamedBatches(IterableDataset[dict[str, Tensor]]):
    """One rank's training batches, without end: after the last row another pass begins, in another order.

    The rows of a pass are read file by file, the files in an order of their own, through a buffer out of which one row at a
    time is drawn. A rest that fills no global batch is left out.

    Args:
        config: the group `data` of `conf/`; its batch size is the global one.
        tokenizer: the model's.
        seed: decides the order and how texts are changed, and nothing else.
        augment: makes the second view of a text, or None.
        rank: which share of each global batch of B rows this is: rows rank * B / processes and on.
        processes: how many shares there are; divides the batch size.
        done: global batches that an interrupted run has trained on already. They are read again, but not tokenised.

    Raises:
        UserError: a file or repository cannot be opened.
    """

    def __init__(
        self,
        config: DataConfig,
        tokenizer: PreTrainedTokenizerFast,
        *,
        seed: int,
        augment: Augment | None = None,
        rank: int = 0,
        processes: int = 1,
        done: int = 0,
    ) -> None:
        self.config = config
        self.tokenizer = tokenizer
        self.seed = seed
        self.augment = augment
        self.rank = rank
        self.share = config.batch_size // processes
        self.done = done
        self._collate = ViewCollator(int(tokenizer.pad_token_id))
        names = config.train_file if isinstance(config.train_file, list) else [config.train_file]
        self._shards: list[Readable] = []
        for name in names:
            if name.startswith("hf://"):
                self._shards += open_stream(name, config.revision, config.columns, key=KEY)
            else:
                self._shards += open_sources(name, None, key=KEY)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """Batches `{input_ids, attention_mask}` of shape (B / processes, views, length), as `ViewCollator` makes them.

        Raises:
            UserError: a row is bad and `data.on_bad_row` is `error`, the usable rows fill no batch, or the stream breaks.
        """
        start = self.rank * self.share
        for number, rows in enumerate(islice(self._global_batches(), self.done, None), start=self.done):
            fields = [row.fields for row in rows[start : start + self.share]]
            if self.augment:
                fields = [
                    (text, self.augment(text, random.Random(derived_seed(self.seed, number, place))))
                    for place, (text,) in enumerate(fields, start=start)
                ]
            yield self._collate(token_table(fields, self.tokenizer, self.config.max_length))

    def _global_batches(self) -> Iterator[list[Row]]:
        size, number = self.config.batch_size, 0
        while True:
            rows = self._one_pass(number)
            full = False
            while len(batch := list(islice(rows, size))) == size:
                full = True
                yield batch
            if not full:
                raise UserError(
                    f"{KEY}: {self.config.train_file}: {len(batch):,} usable rows are less than one batch of {size:,}.\n"
                    "Lower data.batch_size."
                )
            number += 1

    def _one_pass(self, number: int) -> Iterator[Row]:
        generator = random.Random(derived_seed(self.seed, number))
        bad = _BadRowsNow(self.config.on_bad_row, silent=number > 0 or self.rank > 0)
        shards = generator.sample(self._shards, len(self._shards))
        rows = chain.from_iterable(text_rows(shard, self.config.columns, bad) for shard in shards)
        return shuffled(rows, self.config.shuffle_buffer or 1, generator)


def shuffled(rows: Iterator[Row], size: int, generator: random.Random) -> Iterator[Row]:
    """Every row once: a buffer of `size` rows is filled, then each row takes the place of one that is drawn from it."""
    buffer = list(islice(rows, size))
    for row in rows:
        place = generator.randrange(size)
        yield buffer[place]
        buffer[place] = row
    generator.shuffle(buffer)
    yield from buffer


class _BadRowsNow(BadRows):
    """Acts on a bad row when it comes, for a stream may have no last row: the first one stops, or a handful is reported."""

    def __init__(self, policy: str, *, silent: bool) -> None:
        super().__init__(policy, KEY, "data.on_bad_row")
        self.silent = silent

    def add(self, source: Readable, line: int, reason: str) -> None:
        super().add(source, line, reason)
        if self.policy == "error":
            self.finish()
        if not self.silent and self.count <= SHOWN:
            more = "; the next ones are left out silently" if self.count == SHOWN else ""
            log.warning("%s, line %d: %s; left out (data.on_bad_row=skip)%s.", source.name, line, reason, more)
