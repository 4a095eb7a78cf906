"""Positives of unsupervised training that are a changed copy of the sentence (Table 1 of the paper).

The text is changed before it is tokenised. Words are what stands between blanks; in a script without blanks between words,
as Chinese, they are the tokenizer's units. Each epoch draws a new change from (seed, epoch, place of the example), so the
same seed gives the same run, and a resumed run draws what it would have drawn. `augmentation=mlm` changes tokens in the
training step instead (`replacement.py`).
"""

import random
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
from transformers import PreTrainedTokenizerFast

from simcse_lit.config.resolvers import local_path
from simcse_lit.config.schema import AugmentationConfig
from simcse_lit.errors import UserError
from simcse_lit.text.corpus import Corpus
from simcse_lit.text.lines import lines_of
from simcse_lit.text.tokens import TEXT, token_table

Augment = Callable[[str, random.Random], str]

# Thai, Lao, Tibetan, Burmese, Khmer; kana, Bopomofo, Han.
UNSPACED = re.compile(
    "[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u312f\u31a0-\u31bf\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
COMPARED = 10_000  # texts by which an augmentation is judged


def augmenter(config: AugmentationConfig, tokenizer: PreTrainedTokenizerFast) -> Augment | None:
    """What changes a text, or None for `augmentation=none` and `mlm`.

    It can be pickled: a data loader's worker may be a new process that gets it that way.

    Args:
        config: the group `augmentation` of `conf/`.
        tokenizer: the model's; its units are the words of a text without blanks between them.

    Raises:
        UserError: the file of synonyms cannot be read.
    """
    rate = config.rate
    if config.name == "crop":
        return partial(_change_words, crop, rate or 0.0, tokenizer)
    if config.name == "word_deletion":
        return partial(_change_words, delete_words, rate or 0.0, tokenizer)
    if config.name == "delete_one_word":
        return partial(_change_words, delete_words, 0.0, tokenizer)
    if config.name == "synonym":
        return partial(_change_words, replace_by_synonym, read_synonyms(config.synonyms or ""), tokenizer)
    return None


def _change_words(
    change: Callable[..., list[str]], how: Any, tokenizer: PreTrainedTokenizerFast, text: str, generator: random.Random
) -> str:
    words = text.split()
    if len(UNSPACED.findall(text)) <= len(words):
        return " ".join(change(words, how, generator))
    words = units(text, tokenizer)
    return "".join(change(in_dictionary(words, how) if isinstance(how, dict) else words, how, generator)).strip()


def units(text: str, tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """Cut a text at blanks, and scripts without blanks into the tokenizer's tokens.

    The units are together the text: each is followed by the blanks behind it. A token that is a part of a character makes no
    unit.
    """
    encoded = tokenizer(
        text, add_special_tokens=False, padding=False, truncation=False, return_offsets_mapping=True, verbose=False
    )
    starts = [0]
    for start, end in encoded["offset_mapping"]:
        start += len(text[start:end]) - len(text[start:end].lstrip())  # some tokenizers count the blank before a word
        if start > starts[-1] and (text[start - 1].isspace() or UNSPACED.search(text[start - 1 : start + 1])):
            starts.append(start)
    return [text[start:end] for start, end in zip(starts, [*starts[1:], len(text)], strict=True)]


def in_dictionary(words: Sequence[str], synonyms: dict[str, list[str]]) -> list[str]:
    """Join neighbouring units to the longest words that have synonyms; a tokenizer may cut these into characters."""
    longest = max(map(len, synonyms))
    joined, place = [], 0
    while place < len(words):
        end = place + 1
        for stop in range(place + 2, min(len(words), place + longest) + 1):
            if "".join(words[place:stop]).strip().lower() in synonyms:
                end = stop
        joined.append("".join(words[place:end]))
        place = end
    return joined


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
    cores = [word.strip("\"'.,;:!?()[] ") for word in words]
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
    for number, line in enumerate(lines_of(path, f"{key}: {name}"), start=1):
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

    def unchanged(self) -> tuple[int, int]:
        """Count the texts that the first epoch leaves as they are, and those that were compared, at most `COMPARED`."""
        step = -(-len(self) // COMPARED)
        rows = range(0, len(self), step)
        texts = self.dataset[list(rows)][TEXT].to_pylist()
        changed = (self.augment(text, self.generator(row)) for row, text in zip(rows, texts, strict=True))
        return sum(new.split() == text.split() for new, text in zip(changed, texts, strict=True)), len(rows)

    def __getitems__(self, indices: list[int]) -> pa.Table:
        table = super().__getitems__(indices)
        positives = [
            (self.augment(text, self.generator(row)),) for row, text in zip(indices, table[TEXT].to_pylist(), strict=True)
        ]
        view1 = token_table(positives, self.tokenizer, self.max_length)["view0"]
        return pa.table({"view0": table["view0"], "view1": view1})
