"""Each claim of the row is true of a small random model of that type."""

import torch
from my_lab.backbones import BERT_GENERATION
from transformers import BertGenerationConfig, BertGenerationEncoder

from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.encoder.kinds import kind_of
from simcse_lit.encoder.packing import pack


def test_packed_rows_and_the_first_token_alone_give_the_vectors_of_the_whole_model() -> None:
    assert kind_of("bert-generation") is BERT_GENERATION  # the package is installed
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    model = BertGenerationEncoder(BertGenerationConfig(vocab_size=100, max_position_embeddings=40, **sizes)).double().eval()
    mask_NL = (torch.arange(12) < torch.tensor([4, 12, 7])[:, None]).long()
    ids_NL = torch.randint(5, 100, mask_NL.shape) * mask_NL
    with torch.no_grad():
        whole_NH = model(input_ids=ids_NL, attention_mask=mask_NL).last_hidden_state[:, 0]
        encoder = SentenceEncoder(model, "cls", "none").eval()
        packed_NH = encoder(ids_NL, mask_NL, pack(mask_NL))
    assert encoder.can_pack
    torch.testing.assert_close(packed_NH, whole_NH, rtol=0, atol=1e-10)


def test_the_dropouts_are_settings_of_its_configuration() -> None:
    assert all(hasattr(BertGenerationConfig(), name) for name in BERT_GENERATION.dropouts)
