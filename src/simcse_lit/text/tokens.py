"""Converts texts to token ids."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerFast


@dataclass
class TokenCounts:
    """Number of texts that the tokenizer truncated, and of texts for which it gave no known token."""

    cut: int = 0
    blank: int = 0


def token_ids(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerFast, max_length: int, counts: TokenCounts | None = None
) -> list[list[int]]:
    """Return the token ids of texts, with special tokens and without padding.

    Args:
        texts: the texts.
        tokenizer: the model's tokenizer.
        max_length: maximum tokens of a text, with special tokens.
        counts: counts truncated texts, and texts without known tokens.
    """
    return _encoded(texts, tokenizer, max_length, counts, special=True)


def text_ids(
    tokenizer: PreTrainedTokenizerFast,
    texts: Sequence[str],
    max_length: int | None = None,
    counts: TokenCounts | None = None,
) -> list[list[int]]:
    """Return the token ids of texts without special tokens; not truncated if `max_length` is None."""
    return _encoded(texts, tokenizer, max_length, counts, special=False)


def _encoded(
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerFast,
    max_length: int | None,
    counts: TokenCounts | None,
    *,
    special: bool,
) -> list[list[int]]:
    # Padding and truncation are always set, since a tokenizer.json may set them (MiniLM's pads and cuts at 128).
    encoded = tokenizer(
        list(texts),
        add_special_tokens=special,
        padding=False,
        truncation=max_length is not None,
        max_length=max_length,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    ids: list[list[int]] = list(encoded["input_ids"])
    if counts and encoded.encodings:
        known_special = frozenset(tokenizer.all_special_ids)  # the unknown token is one of them
        counts.blank += sum(map(known_special.issuperset, ids))
        full = (encoding for encoding, tokens in zip(encoded.encodings, ids, strict=True) if len(tokens) == max_length)
        counts.cut += sum(bool(encoding.overflowing) for encoding in full)
    return ids
