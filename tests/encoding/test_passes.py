"""Encoding outside of training: order, blocks and precision change cost, never which vector belongs to a sentence."""

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from simcse_lit.config.schema import ModelConfig
from simcse_lit.encoder.backbone import load_backbone
from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.encoding import passes as encoding
from simcse_lit.encoding.passes import encode, encode_into
from simcse_lit.evaluation.embeddings import Embeddings

TINY = ModelConfig("pkg://simcse_lit/data/samples/tiny", None, None, False, None, None, False, None)
SENTENCES = ["A man plays.", "Snow fell on the old town through the night.", "Snow.", "", "A man plays.", "Rain", "No."]


def tiny() -> tuple[SentenceEncoder, PreTrainedTokenizerFast]:
    torch.manual_seed(3)
    backbone, tokenizer = load_backbone(TINY, mlm=False)
    return SentenceEncoder(backbone, "avg", "none").eval(), tokenizer


@pytest.mark.parametrize("block", [2, 3, 100])
@pytest.mark.parametrize("token_budget", [1, 20, 4096])
def test_each_sentence_has_the_vector_that_it_has_alone(
    block: int, token_budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, tokenizer = tiny()
    monkeypatch.setattr(encoding, "BLOCK", block)
    vectors = encode(encoder, tokenizer, SENTENCES, token_budget=token_budget)
    for sentence, vector in zip(SENTENCES, vectors, strict=True):
        ids = torch.tensor([tokenizer(sentence)["input_ids"]])
        with torch.inference_mode():
            alone = encoder.embed(ids, torch.ones_like(ids))[0]
        torch.testing.assert_close(vector, alone, rtol=0, atol=1e-5)


def test_bfloat16_stays_close_to_float32() -> None:
    encoder, tokenizer = tiny()
    unique = list(dict.fromkeys(SENTENCES))
    exact = encode(encoder, tokenizer, unique)
    embeddings = Embeddings(unique)
    settings = {"template": None, "max_length": 64, "token_budget": 4096, "progress": None}
    encode_into(embeddings, encoder, tokenizer, unique, range(len(unique)), precision="bf16-mixed", **settings)  # type: ignore[arg-type]
    half = embeddings(unique)
    assert bool((torch.cosine_similarity(half, exact) > 0.9995).all())
    assert not torch.equal(half, exact), "autocast was off"


def test_a_damaged_tokenizer_is_not_swallowed_by_the_thread_that_reads_ahead() -> None:
    encoder, tokenizer = tiny()
    tokenizer.pad_token = None
    with pytest.raises(TypeError):
        encode(encoder, tokenizer, SENTENCES)
