"""Counts what was read of a training corpus (rows, duplicates, truncated texts), and checks that it can be learnt from.

Identical texts of a batch are false negatives of each other: the loss pushes equal texts apart.
"""

import logging
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from simcse_lit.errors import UserError
from simcse_lit.text.tokens import TokenCounts

log = logging.getLogger(__name__)

CONTRASTED = ("texts", "anchors", "positives")  # those of other examples are the negatives


@dataclass(frozen=True)
class Summary:
    """What was read of a corpus.

    Args:
        rows: rows of the files, or sentences of documents.
        left_out: bad rows, and NLI rows without a gold label.
        unlabelled: NLI rows without a gold label.
        examples: examples made of the other rows.
        duplicates: for each column, examples whose text occurs in an earlier example.
        cut: texts longer than `max_length` tokens.
        blank: texts for which the tokenizer gives nothing but unknown tokens.
        max_length: maximum tokens of a text, with special tokens.
    """

    rows: int
    left_out: int
    unlabelled: int
    examples: int
    duplicates: dict[str, int]
    cut: int
    blank: int
    max_length: int


@dataclass
class Counting:
    """Counts the numbers of a summary while a corpus is tokenised, in 8 bytes for each text.

    Args:
        names: names of the texts of a row, in the plural.
    """

    names: Sequence[str]
    tokens: TokenCounts = field(default_factory=TokenCounts)

    def __post_init__(self) -> None:
        self._hashes = [array("q") for _ in self.names]

    def add(self, rows: Iterable[Sequence[str]]) -> None:
        """Count the texts of some examples; "" is a missing text."""
        for hashes, texts in zip(self._hashes, zip(*rows, strict=True), strict=False):
            hashes.extend(map(hash, filter(None, texts)))

    def summary(self, *, rows: int, left_out: int, unlabelled: int, max_length: int) -> Summary:
        """Return the counts."""
        examples = max(map(len, self._hashes))
        duplicates = {
            name: len(hashes) - np.unique(np.asarray(hashes)).size
            for name, hashes in zip(self.names, self._hashes, strict=True)
        }
        return Summary(rows, left_out, unlabelled, examples, duplicates, **asdict(self.tokens), max_length=max_length)


def check(summary: Summary, examples: int, *, contrasted: bool = True) -> None:
    """Refuse a corpus from which nothing can be learnt, and warn if little can be learnt.

    Args:
        summary: summary of the corpus.
        examples: examples of an epoch.
        contrasted: the other examples of a batch are the negatives; not so in masked language modelling alone.

    Raises:
        UserError: it has only blank texts; or texts are contrasted, and it has one example or one text for all examples.
    """
    key, total = "data.train_file", summary.examples
    if contrasted:
        _check_negatives(summary, examples, key)
    texts = total * len(summary.duplicates)
    if summary.blank == texts:
        raise UserError(
            f"{key}: the tokenizer turns every text into unknown tokens only.\nChoose a model for the language of the texts."
        )
    if 2 * summary.blank > texts:
        log.warning(
            "The tokenizer turns %s of %s texts into unknown tokens only, so the model cannot tell them apart.\n"
            "Choose a model for their language.",
            f"{summary.blank:,}",
            f"{texts:,}",
        )
    if summary.cut == texts:
        log.warning(
            "Every text is longer than data.max_length=%d tokens and is cut there. Increase it, or give\none sentence "
            "a line.",
            summary.max_length,
        )


def _check_negatives(summary: Summary, examples: int, key: str) -> None:
    total = summary.examples
    if examples < 2 and "hard negatives" not in summary.duplicates:
        raise UserError(
            f"{key}: has one example. The other examples of a batch are its negatives, and there are none,\n"
            "so nothing can be learnt. Give two examples or more."
        )
    if examples < 2:
        log.warning("There is one example, so its hard negative is the only negative.")
    for name, count in summary.duplicates.items():
        if name not in CONTRASTED:
            continue
        if count == total - 1 > 0:
            raise UserError(
                f"{key}: all {total:,} {name} are the same text, but the other examples of a batch are the negatives,\n"
                "so nothing can be learnt. Give different texts."
            )
        if 2 * count > total:
            log.warning(
                "%s of %s %s repeat an earlier one. In a batch they are false negatives of each other.\n"
                "Remove the repeated ones from data.train_file unless they are intended.",
                f"{count:,}",
                f"{total:,}",
                name,
            )
