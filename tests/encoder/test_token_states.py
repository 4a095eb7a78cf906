"""The states of all tokens, with a vector in place of the embedding of each sentence's first token."""

from typing import Any

import pytest
import torch
from transformers import BertConfig, BertModel, DistilBertConfig, DistilBertModel, RobertaConfig, RobertaModel

from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.encoder.packing import pack
from tests.encoders import ragged_batch

SMALL: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
SIZES: dict[str, Any] = {"vocab_size": 100, "max_position_embeddings": 40, "pad_token_id": 0}
BACKBONES = {
    "bert": lambda: BertModel(BertConfig(**SMALL, **SIZES)),
    "roberta": lambda: RobertaModel(RobertaConfig(**SMALL, **SIZES)),
    "distilbert": lambda: DistilBertModel(DistilBertConfig(dim=32, hidden_dim=64, n_layers=2, n_heads=4, **SIZES)),
}


@pytest.fixture(params=list(BACKBONES))
def encoder(request: pytest.FixtureRequest) -> SentenceEncoder:
    torch.manual_seed(0)
    return SentenceEncoder(BACKBONES[request.param](), "cls", "none").double().eval()


def test_the_output_of_the_embedding_layer_is_what_is_replaced(encoder: SentenceEncoder) -> None:
    ids_NL, mask_NL = ragged_batch([9, 4, 6])
    plain_NLH = encoder.token_states(ids_NL, mask_NL)
    first_NH = encoder.backbone.get_submodule("embeddings")(input_ids=ids_NL)[:, 0]
    torch.testing.assert_close(encoder.token_states(ids_NL, mask_NL, first_NH=first_NH), plain_NLH)
    other_NLH = encoder.token_states(ids_NL, mask_NL, first_NH=first_NH.roll(1, 0))
    assert (other_NLH - plain_NLH)[mask_NL.bool()].abs().sum(1).min() > 1e-3  # of every token
    assert torch.equal(encoder.token_states(ids_NL, mask_NL), plain_NLH)  # only within the pass


def test_packed_rows_have_the_same_states(encoder: SentenceEncoder) -> None:
    ids_NL, mask_NL = ragged_batch([9, 4, 6, 2])
    first_NH = torch.randn(4, 32, dtype=torch.float64)
    packing = pack(mask_NL, 16)
    packed_RWH = encoder.token_states(ids_NL, mask_NL, packing, first_NH=first_NH)
    padded_NLH = encoder.token_states(ids_NL, mask_NL, first_NH=first_NH)
    real_NL = mask_NL.bool()
    torch.testing.assert_close(packing.unpack(packed_RWH, ids_NL.shape)[real_NL], padded_NLH[real_NL])
