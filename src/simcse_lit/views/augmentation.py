"""Text makers: the positive of unsupervised training is a changed copy of the sentence (Table 1 of the paper).

The text is changed before it is tokenised. Words are separated by blanks. In a script without blanks between words, such as
Chinese, words are the units of the tokenizer. Each epoch draws a new change from the seed, the epoch and the example, so a
run repeats itself, also when it is resumed. `replacement.py` (`augmentation=mlm`) changes tokens in the training step.
"""

import re
from collections.abc import Sequence
from random import Random

from transformers import PreTrainedTokenizerFast

from simcse_lit.config.resolvers import local_path
from simcse_lit.errors import UserError
from simcse_lit.text.lines import lines_of
from simcse_lit.views.makers import TextMaker

# Thai, Lao, Tibetan, Burmese, Khmer; kana, Bopomofo, Han.
UNSPACED = re.compile(
    "[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u312f\u31a0-\u31bf\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)


class WordMaker(TextMaker):
    """Base of the makers of this file. They change the words of a text, or its units where it has no blanks."""

    def setup(self, tokenizer: PreTrainedTokenizerFast) -> None:
        """Store the tokenizer, whose units are the words of a text without blanks."""
        self.tokenizer = tokenizer

    def change(self, words: Sequence[str], rng: Random, *, spaced: bool) -> list[str]:
        """Change the words of a text.

        Args:
            words: the words.
            rng: generator for every draw.
            spaced: there are blanks between the words.
        """
        raise NotImplementedError(f"{type(self).__name__} has no change(words, rng, *, spaced)")

    def __call__(self, text: str, rng: Random) -> str:
        """Change a text. Several blanks between words become one."""
        words = text.split()
        if len(UNSPACED.findall(text)) <= len(words):
            return " ".join(self.change(words, rng, spaced=True))
        return "".join(self.change(units(text, self.tokenizer), rng, spaced=False)).strip()


class Crop(WordMaker):
    """Keep a contiguous part of the text. Table 1, "crop".

    Args:
        rate: share of the words that is cut off.
    """

    def __init__(self, rate: float) -> None:
        self.rate = share(rate)

    def change(self, words: Sequence[str], rng: Random, *, spaced: bool) -> list[str]:
        """Change the words with `crop`."""
        return crop(words, self.rate, rng)


class DeleteWords(WordMaker):
    """Delete some words. Table 1, "word deletion" and "delete one word".

    Args:
        rate: share of the words that is deleted; None for one word.
    """

    def __init__(self, rate: float | None = None) -> None:
        self.rate = 0.0 if rate is None else share(rate)

    def change(self, words: Sequence[str], rng: Random, *, spaced: bool) -> list[str]:
        """Change the words with `delete_words`."""
        return delete_words(words, self.rate, rng)


class ReplaceBySynonym(WordMaker):
    """Replace one word by a synonym. Table 1, "synonym replacement".

    Args:
        synonyms: file of lines `word<TAB>synonym[<TAB>synonym...]`.

    Raises:
        UserError: the file cannot be read.
    """

    def __init__(self, synonyms: str) -> None:
        self.synonyms = read_synonyms(synonyms)

    def change(self, words: Sequence[str], rng: Random, *, spaced: bool) -> list[str]:
        """Change the words with `replace_by_synonym`."""
        return replace_by_synonym(words if spaced else in_dictionary(words, self.synonyms), self.synonyms, rng)


def share(rate: float) -> float:
    """Check that a rate is a share of the words or tokens, and return it.

    Raises:
        ValueError: it is not between 0 and 1.
    """
    if not 0 < rate < 1:
        raise ValueError(f"rate={rate}: must be greater than 0 and below 1, a share of the words or tokens")
    return rate


def units(text: str, tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """Cut a text at blanks, and scripts without blanks into the tokenizer's tokens.

    Joined, the units are the text: each unit includes the blanks after it. A token that is a part of a character is not a
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
    """Join neighbouring units to the longest words that have synonyms. A tokenizer may cut such words into characters."""
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
    """Return how many words a rate removes from a sentence: the rounded share, at least one, never all."""
    return max(0, min(max(1, round(rate * words)), words - 1))


def crop(words: Sequence[str], rate: float, generator: Random) -> list[str]:
    """Keep all but `removed(len(words), rate)` words, from a random start. Table 1, "crop"."""
    cut = removed(len(words), rate)
    start = generator.randint(0, cut)
    return list(words[start : start + len(words) - cut])


def delete_words(words: Sequence[str], rate: float, generator: Random) -> list[str]:
    """Delete `removed(len(words), rate)` random words; with rate 0, one. Table 1, "word deletion"."""
    kept = sorted(generator.sample(range(len(words)), len(words) - removed(len(words), rate)))
    return [words[place] for place in kept]


def replace_by_synonym(words: Sequence[str], synonyms: dict[str, list[str]], generator: Random) -> list[str]:
    """Replace one random word that has synonyms; if there is none, change nothing. Table 1, "synonym replacement".

    A word is looked up in lower case without the punctuation around it. The punctuation and an initial capital stay.
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
    """Read a file of synonyms, with a line `word<TAB>synonym[<TAB>synonym...]` for each word.

    Returns:
        The synonyms by word in lower case.

    Raises:
        UserError: there is no such file, or a line has no synonym.
    """
    key = "augmentation.synonyms"
    path = local_path(name, key)
    synonyms: dict[str, list[str]] = {}
    for number, line in enumerate(lines_of(path, f"{key}: {name}"), start=1):
        word, *others = [field.strip() for field in line.split("\t")]
        if not word or not others or not all(others):
            raise UserError(f"{key}: {name}, line {number}: expected a word, a tab and synonyms, got {line!r}.")
        synonyms.setdefault(word.lower(), []).extend(others)
    if not synonyms:
        raise UserError(f"{key}: {name}: the file is empty.")
    return synonyms
