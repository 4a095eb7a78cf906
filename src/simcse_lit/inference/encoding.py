"""Encodes sentences outside of a Lightning loop."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from simcse_lit.data.collation import EVALUATION_LENGTH, SentenceBatches
from simcse_lit.evaluation.embeddings import Embeddings
from simcse_lit.model.encoder import SentenceEncoder


@torch.inference_mode()
def encode(
    encoder: SentenceEncoder,
    tokenizer: PreTrainedTokenizerFast,
    sentences: Sequence[str],
    *,
    max_length: int = EVALUATION_LENGTH,
    token_budget: int = 8192,
) -> Tensor:
    """The vectors of some sentences in their order, (len(sentences), hidden), float32 on the CPU.

    Args:
        encoder: an encoder in evaluation mode.
        tokenizer: its tokenizer.
        sentences: texts; one that stands twice is encoded once.
        max_length: tokens after which a sentence is cut.
        token_budget: padded tokens of a batch; changes speed, not the vectors.
    """
    unique = list(dict.fromkeys(sentences))
    embeddings = Embeddings(unique)
    batches = SentenceBatches(
        unique, tokenizer, max_length=min(max_length, tokenizer.model_max_length), token_budget=token_budget
    )
    for place in range(len(batches)):
        batch = batches[place]
        device = encoder.device
        embeddings.add(batch["index"], encoder.embed(batch["input_ids"].to(device), batch["attention_mask"].to(device)))
    return embeddings(sentences)


def nearest(query_QH: Tensor, corpus_NH: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k most similar rows of a corpus for each query.

    Args:
        query_QH: vectors of the queries, (Q, H).
        corpus_NH: vectors of the corpus, (N, H), N >= k.
        k: how many.

    Returns:
        (cosines, places), both (Q, k), most similar first.
    """
    cosine_QN = F.normalize(query_QH, dim=-1) @ F.normalize(corpus_NH, dim=-1).T
    top = cosine_QN.topk(k)
    return top.values, top.indices
