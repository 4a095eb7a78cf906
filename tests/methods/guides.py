"""A frozen encoder with random weights for `check_term`, and a step whose frozen encoder gives known vectors."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.objective.step import Step
from simcse_lit.testing import step_of
from simcse_lit.testing.small_run import VOCABULARY, Views, roles_of
from simcse_lit.training.beside import Beside


class Guide(Beside):
    """One layer with random weights, frozen."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.width = width

    def setup(self, encoder: SentenceEncoder, tokenizer: PreTrainedTokenizerFast) -> None:
        config = BertConfig(
            vocab_size=VOCABULARY.size,
            hidden_size=self.width,
            num_hidden_layers=1,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=40,
        )
        with torch.random.fork_rng():
            torch.manual_seed(7)
            self.encoder = SentenceEncoder(BertModel(config), "avg", "none").requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "Guide":
        return super().train(False)


def guided_step(vectors_BVD: Tensor, guide_BVD: Tensor, views: Views | None = None) -> Step:
    """A step whose frozen encoders all give `guide_BVD`."""
    step = step_of(vectors_BVD, None if views is None else roles_of(views))

    def encode_view(place: int, **options: Any) -> Tensor:
        assert options["gradient"] is False
        return guide_BVD[:, place]

    return replace(step, passes=replace(step.passes, encode_view=encode_view))
