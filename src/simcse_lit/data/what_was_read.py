"""What was read of a training corpus: rows, duplicates, texts that were cut; and whether anything can be learnt from it.

Identical texts of a batch are each other's false negatives: the loss pushes apart what is the same.
"""

import logging
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from simcse_lit.errors import UserError
from simcse_lit.text.tokens import TokenCounts

log = logging.getLogger(__name__)

CONTRASTED = ("texts", "anchors", "positives")  # of other examples these are the negatives


@dataclass(frozen=True)
class Summary:
    """What was read of a corpus.

    Args:
        rows: of the files, or sentences of documents.
        left_out: bad rows, and those of NLI without a gold label.
        unlabelled: the latter.
        examples: that were made of the others.
        duplicates: for each column, examples whose text an earlier example has.
        cut: texts that are longer than `max_length` tokens.
        blank: texts of which the tokenizer leaves nothing, or unknown tokens only.
        max_length: tokens of a text, with special tokens.
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
    """Counts what a summary says while a corpus is tokenised, in 8 bytes a text.

    Args:
        names: of the texts of a row, in the plural.
    """

    names: Sequence[str]
    tokens: TokenCounts = field(default_factory=TokenCounts)

    def __post_init__(self) -> None:
        self._hashes = [array("q") for _ in self.names]

    def add(self, rows: Iterable[Sequence[str]]) -> None:
        """Count the texts of some examples; "" is a text that is missing."""
        for hashes, texts in zip(self._hashes, zip(*rows, strict=True), strict=False):
            hashes.extend(map(hash, filter(None, texts)))

    def summary(self, *, rows: int, left_out: int, unlabelled: int, max_length: int) -> Summary:
        """Return what was counted."""
        examples = max(map(len, self._hashes))
        duplicates = {
            name: len(hashes) - np.unique(np.asarray(hashes)).size
            for name, hashes in zip(self.names, self._hashes, strict=True)
        }
        return Summary(rows, left_out, unlabelled, examples, duplicates, **asdict(self.tokens), max_length=max_length)


def check(summary: Summary, examples: int) -> None:
    """Refuse a corpus from which nothing can be learnt, and warn of one from which little can.

    Args:
        summary: of the corpus.
        examples: that an epoch has.

    Raises:
        UserError: it has one example, one text for all, or nothing but blank texts.
    """
    key, total = "data.train_file", summary.examples
    if examples < 2 and "hard negatives" not in summary.duplicates:
        raise UserError(
            f"{key}: holds one example. Its negatives are the other examples of the batch, and there are none:\n"
            "nothing can be learnt. Give two or more."
        )
    if examples < 2:
        log.warning("There is one example, so its hard negative is the only negative.")
    for name, count in summary.duplicates.items():
        if name not in CONTRASTED:
            continue
        if count == total - 1 > 0:
            raise UserError(
                f"{key}: all {total:,} {name} are one text, and the other examples of a batch are the negatives:\n"
                "nothing can be learnt. Give different ones."
            )
        if 2 * count > total:
            log.warning(
                "%s of %s %s repeat an earlier one. In a batch they are each other's false negatives;\n"
                "leave the repeated ones out of data.train_file if that is not meant.",
                f"{count:,}",
                f"{total:,}",
                name,
            )
    texts = total * len(summary.duplicates)
    if summary.blank == texts:
        raise UserError(
            f"{key}: the tokenizer leaves nothing of any text but unknown tokens.\n"
            "Choose a model for the language of the texts."
        )
    if 2 * summary.blank > texts:
        log.warning(
            "The tokenizer leaves nothing of %s of %s texts but unknown tokens: to the model they are one text.\n"
            "Choose a model for their language.",
            f"{summary.blank:,}",
            f"{texts:,}",
        )
    if summary.cut == texts:
        log.warning(
            "Every text is longer than data.max_length=%d tokens, and cut there. Set it higher, or give a\nsentence a line.",
            summary.max_length,
        )
