"""A small encoder and a batch for it."""

import torch
from transformers import BertConfig, BertForMaskedLM, BertModel


def small_bert(*, mlm: bool = False, layers: int = 3) -> BertModel | BertForMaskedLM:
    """A BERT of 3 layers and 32 units with random weights, in float64 so that tests can be sharp."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=100,
        hidden_size=32,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=40,
    )
    return (BertForMaskedLM(config) if mlm else BertModel(config)).double()


def ragged_batch(lengths: list[int], width: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Random ids and the mask of sentences of these lengths, padded on the right with 0."""
    generator = torch.Generator().manual_seed(1)
    mask = torch.arange(width or max(lengths)) < torch.tensor(lengths)[:, None]
    ids = torch.randint(5, 100, mask.shape, generator=generator)
    return ids * mask, mask.long()
