"""Positives of unsupervised training that are a changed copy of the sentence (Table 1 of the paper).

The text is changed before it is tokenised. Each epoch draws a new change from (seed, epoch, place of the example), so the
same seed gives the same run, and a resumed run draws what it would have drawn. `augmentation=mlm` changes tokens in the
training step instead (`replacement.py`).
"""

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
from transformers import PreTrainedTokenizerFast

from simcse_lit.config.resolvers import local_path
from simcse_lit.config.schema import AugmentationConfig
from simcse_lit.errors import UserError
from simcse_lit.text.corpus import Corpus
from simcse_lit.text.tokens import TEXT, token_table

Augment = Callable[[str, random.Random], str]


def augmenter(config: AugmentationConfig) -> Augment | None:
    """What changes a text, or None for `augmentation=none` and `mlm`. Words are what stands between blanks.

    It can be pickled: a data loader's worker may be a new process that gets it that way.

    Raises:
        UserError: the file of synonyms cannot be read.
    """
    rate = config.rate
    if config.name == "crop":
        return partial(_change_words, crop, rate or 0.0)
    if config.name == "word_deletion":
        return partial(_change_words, delete_words, rate or 0.0)
    if config.name == "delete_one_word":
        return partial(_change_words, delete_words, 0.0)
    if config.name == "synonym":
        return partial(_change_words, replace_by_synonym, read_synonyms(config.synonyms or ""))
    return None


def _change_words(change: Callable[..., list[str]], how: Any, text: str, generator: random.Random) -> str:
    return " ".join(change(text.split(), how, generator))


def removed(words: int, rate: float) -> int:
    """How many of a sentence's words a rate takes away: rounded, at least one, never all."""
    return max(0, min(max(1, round(rate * words)), words - 1))


def crop(words: Sequence[str], rate: float, generator: random.Random) -> list[str]:
    """A stretch of the words, `removed(len(words), rate)` shorter, from a random place on. Table 1, "crop"."""
    cut = removed(len(words), rate)
    start = generator.randint(0, cut)
    return list(words[start : start + len(words) - cut])


def delete_words(words: Sequence[str], rate: float, generator: random.Random) -> list[str]:
    """The words without `removed(len(words), rate)` of them; with rate 0 one is deleted. Table 1, "word deletion"."""
    kept = sorted(generator.sample(range(len(words)), len(words) - removed(len(words), rate)))
    return [words[place] for place in kept]


def replace_by_synonym(words: Sequence[str], synonyms: dict[str, list[str]], generator: random.Random) -> list[str]:
    """The words with one of those that have synonyms replaced; as they are if there is none. Table 1, "synonym replacement".

    A word is looked up in lower case without the punctuation around it, which stays, as does a capital at its start.
    """
    words = list(words)
    cores = [word.strip("\"'.,;:!?()[]") for word in words]
    known = [place for place, core in enumerate(cores) if core.lower() in synonyms]
    if known:
        place = generator.choice(known)
        core = cores[place]
        synonym = generator.choice(synonyms[core.lower()])
        synonym = synonym[0].upper() + synonym[1:] if core[0].isupper() else synonym
        words[place] = words[place].replace(core, synonym)
    return words


def read_synonyms(name: str) -> dict[str, list[str]]:
    """A file of synonyms, `word<TAB>synonym[<TAB>synonym...]` a line, by word in lower case.

    Raises:
        UserError: there is no such file, or a line has no synonym.
    """
    key = "augmentation.synonyms"
    path = local_path(name, key)
    synonyms: dict[str, list[str]] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{key}: {name}: cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    for number, line in enumerate(lines, start=1):
        word, *others = [field.strip() for field in line.split("\t")]
        if not word or not others or not all(others):
            raise UserError(f"{key}: {name}, line {number}: expected a word and its synonyms, with tabs between: {line!r}.")
        synonyms.setdefault(word.lower(), []).extend(others)
    if not synonyms:
        raise UserError(f"{key}: {name}: the file is empty.")
    return synonyms


class AugmentedCorpus(Corpus):
    """A corpus of one view whose second view is a changed copy of the text, drawn anew in every epoch.

    Args:
        dataset: tokenised, with the column `text`.
        tokenizer: the model's.
        augment: changes a text.
        max_length: tokens of a sentence.
        seed: with the epoch and the example decides the change.
    """

    def __init__(
        self, dataset: Any, tokenizer: PreTrainedTokenizerFast, augment: Augment, *, max_length: int, seed: int
    ) -> None:
        super().__init__(dataset, seed)
        self.tokenizer = tokenizer
        self.augment = augment
        self.max_length = max_length

    def __getitems__(self, indices: list[int]) -> pa.Table:
        table = super().__getitems__(indices)
        positives = [
            (self.augment(text, self.generator(row)),) for row, text in zip(indices, table[TEXT].to_pylist(), strict=True)
        ]
        view1 = token_table(positives, self.tokenizer, self.max_length)["view0"]
        return pa.table({"view0": table["view0"], "view1": view1})
