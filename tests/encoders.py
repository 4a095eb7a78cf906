"""A small encoder and a batch for it."""

from typing import Any

import torch
from transformers import BertConfig, BertForMaskedLM, BertModel

from simcse_lit.encoder.pooling import Pooler, make_pooler
from simcse_lit.objective.info_nce import InfoNCE
from simcse_lit.objective.mlm import MaskedLanguageModel
from simcse_lit.objective.term import Objective
from simcse_lit.testing.small_run import VOCABULARY

SIZES: dict[str, Any] = {  # of a small model of any kind
    "vocab_size": 100,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 40,
}


def small_bert(*, mlm: bool = False, layers: int = 3) -> BertModel | BertForMaskedLM:
    """A BERT of 3 layers and 32 units with random weights, in float64 so that tests can be sharp."""
    torch.manual_seed(0)
    config = BertConfig(**{**SIZES, "num_hidden_layers": layers})
    return (BertForMaskedLM(config) if mlm else BertModel(config)).double()


def ragged_batch(lengths: list[int], width: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Random ids and the mask of sentences of these lengths, padded on the right with 0."""
    generator = torch.Generator().manual_seed(1)
    mask = torch.arange(width or max(lengths)) < torch.tensor(lengths)[:, None]
    ids = torch.randint(5, 100, mask.shape, generator=generator)
    return ids * mask, mask.long()


def pooler_of(name: str) -> Pooler:
    """A pooler of ours; that of the mask token as if a template left one token behind it."""
    pooler = make_pooler(name)
    pooler.set_up(1)
    return pooler


def objective_of(*, temperature: float = 0.05, mlm_weight: float = 0.0, **of_contrastive: Any) -> Objective:
    """The objective of SimCSE for `small_bert`, set up, with MLM if it has a weight."""
    terms = {"contrastive": InfoNCE(temperature, **of_contrastive), "mlm": MaskedLanguageModel(0.15)}
    weights = {"contrastive": 1.0, "mlm": mlm_weight}
    objective = Objective({name: term for name, term in terms.items() if weights[name]}, weights)
    objective.setup(32, VOCABULARY)
    return objective
