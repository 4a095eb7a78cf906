"""Texts to token ids, as columns of an Arrow table."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
from transformers import PreTrainedTokenizerFast

TEXT = "text"  # the column of a tokenised corpus that keeps the text


@dataclass
class TokenCounts:
    """What the tokenizer did to texts: how many it cut at the greatest length, and of how many it left nothing it knows."""

    cut: int = 0
    blank: int = 0


def token_table(
    rows: Sequence[tuple[str, ...]],
    tokenizer: PreTrainedTokenizerFast,
    max_length: int,
    counts: TokenCounts | None = None,
) -> pa.Table:
    """Texts of one or more views, row by row, to the columns view0 [, view1 [, view2]] of token ids, lists of int32.

    Args:
        rows: a text for each view.
        tokenizer: the model's.
        max_length: tokens after which a text is cut, with special tokens.
        counts: to which texts that were cut, or of which nothing was left, are added.
    """
    columns = [_token_ids(tokenizer, list(texts), max_length, counts) for texts in zip(*rows, strict=True)]
    return pa.table({f"view{view}": pa.array(ids, pa.list_(pa.int32())) for view, ids in enumerate(columns)})


def _token_ids(
    tokenizer: PreTrainedTokenizerFast, texts: list[str], max_length: int, counts: TokenCounts | None
) -> list[list[int]]:
    # Padding and truncation are always given: a tokenizer.json may carry its own (MiniLM's pads and cuts at 128).
    encoded = tokenizer(
        texts,
        padding=False,
        truncation=True,
        max_length=max_length,
        return_attention_mask=False,
        return_token_type_ids=False,
    )
    ids: list[list[int]] = list(encoded["input_ids"])
    if counts and encoded.encodings:
        special = frozenset(tokenizer.all_special_ids)  # the unknown token is one of them
        counts.blank += sum(map(special.issuperset, ids))
        full = (encoding for encoding, tokens in zip(encoded.encodings, ids, strict=True) if len(tokens) == max_length)
        counts.cut += sum(bool(encoding.overflowing) for encoding in full)
    return ids
