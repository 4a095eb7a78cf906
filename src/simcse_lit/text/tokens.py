"""Texts to token ids, as columns of an Arrow table."""

from collections.abc import Sequence

import pyarrow as pa
from transformers import PreTrainedTokenizerFast

TEXT = "text"  # the column of a tokenised corpus that keeps the text


def token_table(rows: Sequence[tuple[str, ...]], tokenizer: PreTrainedTokenizerFast, max_length: int) -> pa.Table:
    """Texts of one or more views, row by row, to the columns view0 [, view1 [, view2]] of token ids, lists of int32."""
    columns = [_token_ids(tokenizer, list(texts), max_length) for texts in zip(*rows, strict=True)]
    return pa.table({f"view{view}": pa.array(ids, pa.list_(pa.int32())) for view, ids in enumerate(columns)})


def _token_ids(tokenizer: PreTrainedTokenizerFast, texts: list[str], max_length: int) -> list[list[int]]:
    # Padding and truncation are always given: a tokenizer.json may carry its own (MiniLM's pads and cuts at 128).
    encoded = tokenizer(
        texts,
        padding=False,
        truncation=True,
        max_length=max_length,
        return_attention_mask=False,
        return_token_type_ids=False,
    )
    return list(encoded["input_ids"])
