"""Training batches from a corpus that is never stored: read, checked, shuffled in a buffer and tokenised while training.

`text/sources.py` reads the files, those behind URLs through fsspec, so rows and messages are the same as without a stream.
Every rank reads the same rows in the same order and keeps its share.
"""

import logging
import random
import re
from collections.abc import Collection, Iterator
from functools import partial
from itertools import chain, islice
from pathlib import Path

import pyarrow as pa
from torch import Tensor
from torch.utils.data import IterableDataset

from simcse_lit.config.resolvers import file_name, is_hub, is_remote
from simcse_lit.config.schema import DataConfig
from simcse_lit.data.collation import EXTRA_TYPES, ViewCollator
from simcse_lit.errors import UserError
from simcse_lit.seeds import derived_seed
from simcse_lit.text import hub, remote
from simcse_lit.text.corpus import drawn_from
from simcse_lit.text.examples import read_examples
from simcse_lit.text.extras import extras_of
from simcse_lit.text.hub_files import find_files
from simcse_lit.text.nli import labelled_columns
from simcse_lit.text.readers import reader_of
from simcse_lit.text.rows import SHOWN, BadRows, Row
from simcse_lit.text.sources import Source, open_sources
from simcse_lit.views.encoded import EncodedViews

log = logging.getLogger(__name__)

KEY = "data.train_file"


class StreamedBatches(IterableDataset[dict[str, Tensor]]):
    """One rank's training batches, without end: after the last row another pass begins, in another order.

    A pass reads the files in random order, row by row, through a buffer from which rows are drawn at random. Rows at the end
    that fill no global batch are left out.

    Args:
        config: group `data` of `conf/`; its batch size is the global one.
        views: views of an example.
        seed: decides the order and the augmentation, and nothing else.
        needs: if it has `rows` or `hashes`, batches contain them; rows are then numbered as they come.
        rank: share of each global batch of B rows: rows from rank * B / processes on.
        processes: number of shares; divides the batch size.
        done: global batches that an interrupted run has trained on. They are read again, but not tokenised.

    Raises:
        UserError: a file or repository cannot be opened.
    """

    def __init__(
        self,
        config: DataConfig,
        views: EncodedViews,
        *,
        seed: int,
        needs: Collection[str] = (),
        rank: int = 0,
        processes: int = 1,
        done: int = 0,
    ) -> None:
        self.config = config
        self.views = views
        self.seed = seed
        self.rank = rank
        self.share = config.batch_size // processes
        self.done = done
        self._collate = ViewCollator(
            int(views.tokenizer.pad_token_id),
            views.places,
            hashes="hashes" in needs,
            empty=views.empty,
            others=views.pad_ids,
        )
        self._with_rows = "rows" in needs
        names = config.train_file if isinstance(config.train_file, list) else [config.train_file]
        self._files = [file for name in names for file in open_stream(name, config.revision)]

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """Yield batches `{input_ids, attention_mask}` of shape (B / processes, views, length), as `ViewCollator` makes them.

        Raises:
            UserError: a row is bad and `data.on_bad_row` is `error`, the usable rows fill no batch, or the stream breaks.
        """
        start, extras = self.rank * self.share, extras_of(self.config)
        for number, rows in enumerate(islice(self._global_batches(), self.done, None), start=self.done):
            fields = [row.fields for row in rows[start : start + self.share]]
            texts = {column: [texts[column] for texts in fields] for column in self.views.kept}
            draw = partial(self._generator, number)
            made = self.views.stored_ids([row[: len(self.config.columns)] for row in fields]) | self.views.made_ids(
                texts, draw
            )
            for place, extra in enumerate(extras, start=len(self.config.columns)):
                made[extra.name] = pa.array([row[place] for row in fields], EXTRA_TYPES[extra.name])
            if self._with_rows:
                first = number * self.config.batch_size + start
                made["rows"] = pa.array(range(first, first + len(fields)), EXTRA_TYPES["rows"])
            yield self._collate(pa.table(made))

    def _generator(self, batch: int, place: int, view: int) -> random.Random:
        return drawn_from(self.seed, batch, self.rank * self.share + place, view)

    def _global_batches(self) -> Iterator[list[Row]]:
        size, number = self.config.batch_size, 0
        while True:
            rows = self._one_pass(number)
            full = False
            while len(batch := list(islice(rows, size))) == size:
                if not full and number == 0:
                    self._refuse_one_text(batch)
                full = True
                yield batch
            if not full:
                raise UserError(
                    f"{KEY}: {self.config.train_file}: {len(batch):,} usable rows do not fill one batch of {size:,}.\n"
                    "Lower data.batch_size."
                )
            number += 1

    def _refuse_one_text(self, batch: list[Row]) -> None:
        contrasted = {view.column for view in self.views.views if view.role in ("anchor", "positive")}
        if len(batch) > 1 and any(len({row.fields[column] for row in batch}) == 1 for column in contrasted):
            raise UserError(
                f"{KEY}: all {len(batch):,} rows of the first batch have the same text, but the other rows are the "
                "negatives,\n"
                "so nothing can be learnt. Use different texts, or a larger data.shuffle_buffer."
            )

    def _one_pass(self, number: int) -> Iterator[Row]:
        generator = random.Random(derived_seed(self.seed, number))
        bad = _BadRowsNow(self.config.on_bad_row, silent=number > 0 or self.rank > 0)
        files = generator.sample(self._files, len(self._files))
        rows = chain.from_iterable(self._rows(file, bad) for file in files)
        return shuffled(rows, self.config.shuffle_buffer or 1, generator)

    def _rows(self, file: Source, bad: BadRows) -> Iterator[Row]:
        columns = self.config.columns
        extras = extras_of(self.config)
        if len(columns) > 2 and not extras and labelled_columns(file.header):
            raise UserError(
                f"{KEY}: {file.name}: building triplets from labelled NLI needs the whole corpus, so it cannot be\n"
                f"streamed. Use data=file, or train on entailments only: data.columns=[{','.join(columns[:2])}]"
            )
        return read_examples([file], columns, bad, self.config.nli_labels, extras, self.config.optional or ())


def open_stream(location: str, revision: str | None) -> list[Source]:
    """Return the files of a location, sorted by name; those behind URLs are not stored.

    Args:
        location: a local file, a URL or a pattern of URLs, or hf://datasets/OWNER/NAME for the train split of a data set.
        revision: branch, tag or commit of files of the Hub.

    Raises:
        UserError: there is no such file, repository or train split, it cannot be reached, or its format is unknown.
    """
    if not is_remote(location) or reader_of(location):
        return open_sources(location, None, key=KEY)
    urls = _hub_files(location, revision) if is_hub(location) else remote.expanded(location, key=KEY)
    return [Source(Path(file_name(url)), re.sub("^(hf://[^@]+)@[^/]+", r"\1", url), KEY, url) for url in urls]


def _hub_files(location: str, revision: str | None) -> list[str]:
    """Return URLs of the files of one commit, so that every pass reads the same text."""
    repository, file = hub.parts(location, KEY)
    with hub.explained(location, f"data set {repository}", revision, KEY):
        commit, names = find_files(location, repository, file, revision, key=KEY)
    return [f"hf://datasets/{repository}@{commit}/{name}" for name in names]


def shuffled(rows: Iterator[Row], size: int, generator: random.Random) -> Iterator[Row]:
    """Yield every row once: fill a buffer of `size` rows, then each new row replaces one drawn from it at random."""
    buffer = list(islice(rows, size))
    for row in rows:
        place = generator.randrange(size)
        yield buffer[place]
        buffer[place] = row
    generator.shuffle(buffer)
    yield from buffer


class _BadRowsNow(BadRows):
    """Acts on a bad row immediately, since a stream may have no last row: it stops, or reports the first few."""

    def __init__(self, policy: str, *, silent: bool) -> None:
        super().__init__(policy, KEY, "data.on_bad_row")
        self.silent = silent

    def add(self, file: str, line: int, reason: str, way_out: str | None = None) -> None:
        super().add(file, line, reason, way_out)
        if self.policy == "error":
            self.finish()
        if not self.silent and self.count <= SHOWN:
            more = "; further ones are not reported" if self.count == SHOWN else ""
            log.warning("%s, line %d: %s; skipped (data.on_bad_row=skip)%s.", file, line, reason, more)
