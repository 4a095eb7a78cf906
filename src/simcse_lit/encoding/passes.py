"""Encodes sentences outside a Lightning loop, sorted by length, in batches under a token budget.

Shapes: N sentences or corpus rows, Q queries, L length, H hidden.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from simcse_lit.data.collation import EVALUATION_LENGTH, SentenceBatches
from simcse_lit.evaluation.embeddings import Embeddings
from simcse_lit.progress import Bar
from simcse_lit.text.template import Template

BLOCK = 32_768  # sentences that are tokenised and sorted together, while the block before them is encoded
AUTOCAST = {"32-true": None, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


class Encoder(Protocol):
    """Computes vectors from token ids; a torch module in evaluation mode."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""

    def embed(self, input_ids_NL: Tensor, attention_mask_NL: Tensor) -> Tensor:
        """(N, L) ids and mask to (N, H)."""


@dataclass(frozen=True)
class EncoderPass:
    """Size and duration of one pass of the encoder, for the terminal and results.json."""

    sentences: int
    tokens: int
    seconds: float

    @property
    def sentences_per_second(self) -> float:
        """Speed, including tokenising."""
        return self.sentences / self.seconds if self.seconds else 0.0


@torch.inference_mode()
def encode_into(
    embeddings: Embeddings,
    encoder: Encoder,
    tokenizer: PreTrainedTokenizerFast,
    sentences: Sequence[str],
    places: Sequence[int],
    *,
    template: Template | None,
    max_length: int,
    token_budget: int,
    precision: str,
    progress: str | None,
) -> EncoderPass:
    """Encode sentences and store their vectors.

    Args:
        embeddings: receives the vectors.
        encoder: the encoder.
        tokenizer: its tokenizer.
        sentences: distinct texts.
        places: the index of each in `embeddings`.
        template: what stands around each; None for nothing.
        max_length: tokens after which a sentence is cut.
        token_budget: padded tokens of a batch; changes speed, not the vectors.
        precision: 32-true, bf16-mixed or 16-mixed.
        progress: label of the progress bar; None for no bar.
    """
    start = time.perf_counter()
    device, dtype, tokens = encoder.device, AUTOCAST[precision], 0
    where_N = torch.tensor(places, dtype=torch.long)

    def tokenised(first: int) -> SentenceBatches:
        block = sentences[first : first + BLOCK]
        return SentenceBatches(block, tokenizer, template=template, max_length=max_length, token_budget=token_budget)

    bar = Bar(total=len(sentences), desc=progress, unit=" sentences", disable=progress is None)
    with bar, ThreadPoolExecutor(1) as ahead, torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
        following = ahead.submit(tokenised, 0)
        for first in range(0, len(sentences), BLOCK):
            batches = following.result()
            if first + BLOCK < len(sentences):
                following = ahead.submit(tokenised, first + BLOCK)  # while the encoder runs
            for batch in (batches[number] for number in range(len(batches))):
                ids_NL, mask_NL = batch["input_ids"].to(device), batch["attention_mask"].to(device)
                embeddings.add(where_N[first + batch["index"]], encoder.embed(ids_NL, mask_NL))
                tokens += int(batch["attention_mask"].sum())
                bar.update(len(batch["index"]))
    return EncoderPass(len(sentences), tokens, time.perf_counter() - start)


def encode(
    encoder: Encoder,
    tokenizer: PreTrainedTokenizerFast,
    sentences: Sequence[str],
    *,
    max_length: int = EVALUATION_LENGTH,
    token_budget: int = 4096,
    precision: str = "32-true",
    template: Template | None = None,
    progress: str | None = None,
) -> Tensor:
    """Encode sentences into vectors in their order, (len(sentences), H), float32 on the CPU.

    Args:
        encoder: an encoder in evaluation mode.
        tokenizer: its tokenizer.
        sentences: texts; repeated ones are encoded once.
        max_length: tokens after which a sentence is cut.
        token_budget: padded tokens of a batch; changes speed, not the vectors.
        precision: 32-true, bf16-mixed or 16-mixed.
        template: what stands around every sentence; None for nothing.
        progress: label of the progress bar; None for no bar.

    Raises:
        UserError: a vector holds a NaN or an infinity.
    """
    unique = list(dict.fromkeys(sentences))
    embeddings = Embeddings(unique)
    encode_into(
        embeddings,
        encoder,
        tokenizer,
        unique,
        range(len(unique)),
        template=template,
        max_length=min(max_length, tokenizer.model_max_length),
        token_budget=token_budget,
        precision=precision,
        progress=progress,
    )
    return embeddings(sentences)


def nearest(query_QH: Tensor, corpus_NH: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Find the k most similar rows of a corpus for each query.

    Args:
        query_QH: vectors of the queries, (Q, H).
        corpus_NH: vectors of the corpus, (N, H), N >= k.
        k: number of rows a query.

    Returns:
        (cosines, places), both (Q, k), most similar first.
    """
    cosine_QN = F.normalize(query_QH, dim=-1) @ F.normalize(corpus_NH, dim=-1).T
    top = cosine_QN.topk(k)
    return top.values, top.indices
