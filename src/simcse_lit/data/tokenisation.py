"""Tokenises a training corpus once and keeps it as a memory-mapped Arrow file, named by everything that it was made from.

The file is checked whenever it is opened, and made again if it is damaged (`cached_file.py`). It has a column of token ids,
with special tokens and without padding, for each text that views read unchanged, and the texts that makers change. Memory
stays bounded: rows are read, checked, tokenised and written in blocks. To tokenise while training use `streaming.py`.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from itertools import chain, islice
from pathlib import Path

import pyarrow as pa
from datasets import Dataset, DatasetInfo
from transformers import PreTrainedTokenizerFast

from simcse_lit.config.schema import DataConfig
from simcse_lit.data.cached_file import is_intact, partial_name, read_record, seal, sweep
from simcse_lit.data.collation import EXTRA_TYPES
from simcse_lit.data.what_was_read import Counting, Summary
from simcse_lit.disk import discard, durable_replace
from simcse_lit.errors import UserError
from simcse_lit.progress import Bar
from simcse_lit.text.examples import counter, read_examples
from simcse_lit.text.extras import extras_of
from simcse_lit.text.nli import labelled_columns
from simcse_lit.text.rows import BadRows, Row
from simcse_lit.text.sources import Source, open_sources
from simcse_lit.views.documents import FOLLOWERS, followed, sentences_of_documents
from simcse_lit.views.encoded import TEXT, EncodedViews
from simcse_lit.views.view import column_names

log = logging.getLogger(__name__)

FORMAT = "5"  # increase it when the same inputs give another file
BLOCK = 4096  # rows in a record batch
NAMED = 32  # characters of a file's name in the name of its corpus; file systems allow 255 bytes


def tokenised_corpus(config: DataConfig, views: EncodedViews) -> Dataset:
    """Return the corpus of `config` as token ids, from the cache or newly made.

    Args:
        config: group `data` of `conf/`.
        views: views of an example.

    Returns:
        A memory-mapped data set with the columns view0 [, view1 [, view2 ...]], lists of int32, and where needed texts
        (text0, ...), `scores`, `labels` and `followers` (`documents.py`). Its `info.download_checksums` are the digests of
        the files, by name.

    Raises:
        UserError: the text cannot be used (see `sources.py`) or is empty, or the cache cannot be written.
    """
    sources = open_sources(config.train_file, config.revision, key="data.train_file")
    digest, checksums, lines = _fingerprint(sources, config, views)
    info = DatasetInfo(download_checksums=checksums)
    folder = Path(config.cache_dir).expanduser()
    path = folder / f"{sources[0].path.stem[:NAMED]}-{digest[:16]}.arrow"
    partial = partial_name(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"data.cache_dir: {folder} cannot be created: {error.strerror or error}.") from error
    try:
        sweep(folder)
        if path.is_file():
            if is_intact(path):
                log.info("Tokenised corpus from the cache, %s", path.name)
                return Dataset.from_file(str(path), info=info)
            log.warning("The tokenised corpus %s in the cache is damaged, so it is made again.", path.name)
        summary = _write(partial, sources, config, views, lines)
        seal(partial, asdict(summary))
        durable_replace(partial, path)
    except OSError as error:
        where = error.filename or folder
        raise UserError(f"data.cache_dir={folder}: {where}: {error.strerror or error}.") from error
    finally:
        discard(partial)
    return Dataset.from_file(str(path), info=info)


def summary_of(dataset: Dataset) -> Summary:
    """Return what was read when a tokenised corpus was made."""
    return Summary(**read_record(Path(dataset.cache_files[0]["filename"])))


def places(dataset: Dataset, rows: Sequence[int], config: DataConfig, views: EncodedViews) -> list[tuple[str, int]] | None:
    """Find where rows of a tokenised corpus came from, by reading its files again.

    Args:
        dataset: result of `tokenised_corpus` for `config` and `views`.
        rows: their numbers, from 0.
        config: group `data` of `conf/`.
        views: views of an example.

    Returns:
        File and line of each row; None if the files have changed since the corpus was made.
    """
    try:
        sources = open_sources(config.train_file, config.revision, key="data.train_file")
        digest, _, _ = _fingerprint(sources, config, views)
        if not Path(dataset.cache_files[0]["filename"]).stem.endswith(f"-{digest[:16]}"):
            return None
        found: dict[int, Row] = {}
        wanted = set(rows)
        for number, row in enumerate(_rows(sources, config, counter(sources, "skip"))):
            if number in wanted:
                found[number] = row
                if len(found) == len(wanted):
                    break
    except (UserError, OSError):
        return None
    return [(found[number].file, found[number].line) for number in rows]


def _rows(sources: Sequence[Source], config: DataConfig, bad: BadRows) -> Iterator[Row]:
    """Return the rows of the corpus, in order; with `next_sentences` the last field counts the sentences that follow."""
    if not config.next_sentences:
        return read_examples(sources, config.columns, bad, config.nli_labels, extras_of(config), config.optional or ())
    sentences = chain.from_iterable(sentences_of_documents(source) for source in sources)
    return (replace(row, fields=(*row.fields, count)) for row, count in followed(sentences, config.next_sentences))


def _write(path: Path, sources: Sequence[Source], config: DataConfig, views: EncodedViews, lines: int) -> Summary:
    columns = len(config.columns)
    fields = [(name, pa.list_(pa.int32())) for name in views.stored_columns]
    fields += [(f"{TEXT}{column}", pa.string()) for column in views.kept]
    fields += [(FOLLOWERS, pa.int32())] if config.next_sentences else []
    extras = [extra.name for extra in extras_of(config)]
    fields += [(name, EXTRA_TYPES[name]) for name in extras]
    schema = pa.schema(fields)
    bad = counter(sources, config.on_bad_row)
    names = column_names(views.views, columns)
    rows = _rows(sources, config, bad)
    counting, written = Counting(names), 0
    with (
        pa.OSFile(str(path), "wb") as file,
        pa.ipc.new_stream(file, schema) as writer,
        Bar(total=lines, unit=" rows", desc="Tokenising", unit_scale=True) as bar,
    ):
        while block := [row.fields for row in islice(rows, BLOCK)]:
            texts = block if len(block[0]) == columns else [row[:columns] for row in block]
            made = views.stored_ids(texts, counting.tokens)
            counting.add(texts)
            for column in views.kept:
                made[f"{TEXT}{column}"] = pa.array([row[column] for row in block], pa.string())
            if config.next_sentences:
                made[FOLLOWERS] = pa.array([row[-1] for row in block], pa.int32())
            for place, name in enumerate(extras, start=columns):
                made[name] = pa.array([row[place] for row in block], EXTRA_TYPES[name])
            writer.write_table(pa.table(made))
            written += len(block)
            bar.update(len(block))
    bad.finish()
    if not written:
        pairing = ""
        if len(config.columns) > 1 and labelled_columns(sources[0].header):
            labels = config.nli_labels[: len(config.columns) - 1]
            pairing = f"\nAn example of labelled NLI needs a premise with a hypothesis for each of: {', '.join(labels)}."
        files = ", ".join(source.name for source in sources)
        raise UserError(f"data.train_file: {files}: has no usable rows.{pairing}")
    log.info("Tokenised %s rows.", f"{written:,}")
    rows_read = written if config.next_sentences else bad.rows
    left_out = bad.count + bad.unlabelled
    return counting.summary(rows=rows_read, left_out=left_out, unlabelled=bad.unlabelled, max_length=config.max_length)


def _fingerprint(sources: Sequence[Source], config: DataConfig, views: EncodedViews) -> tuple[str, dict[str, str], int]:
    """Return a digest of everything that decides the token ids, the digests of the files, and the number of lines."""
    digest = hashlib.sha256()
    kind = [*_kind(views.tokenizer)]
    for name, other in views.others.items():
        kind += [name, *_kind(other.tokenizer)]
    layout = (views.stored, views.kept, config.template_in_length, config.scores, config.labels, config.optional)
    kept = (str(layout), str(config.next_sentences), *config.nli_labels)
    for part in (FORMAT, str(config.max_length), config.on_bad_row, *config.columns, *kept, *kind):
        digest.update(f"{part}\0".encode())
    checksums: dict[str, str] = {}
    lines = 0
    for source in sources:
        content = hashlib.sha256()
        for block in source.content():
            content.update(block)
            lines += block.count(b"\n")
        digest.update(f"{source.format}{source.packing}\0{content.hexdigest()}\0".encode())
        # Two files of a data set on the Hub may have the same name.
        checksums[source.name] = checksums.get(source.name, "") + content.hexdigest()
    return digest.hexdigest(), checksums, lines


def _kind(tokenizer: PreTrainedTokenizerFast) -> tuple[str, str, str]:
    """Return what decides the token ids of a tokenizer."""
    # Without padding and truncation: every call of a tokenizer sets them, and the ids do not depend on them.
    backend = json.dumps({**json.loads(tokenizer.backend_tokenizer.to_str()), "padding": None, "truncation": None})
    return (type(tokenizer).__name__, tokenizer.truncation_side, backend)
