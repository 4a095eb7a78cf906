"""The table holds each token's vector, and the code for the model card reads it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from my_lab.formats import write_table
from transformers import AutoTokenizer, BertConfig, BertModel

from simcse_lit.config.resolvers import local_path
from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.formats.loading import LoadedEncoder


def test_the_table_is_written_and_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = AutoTokenizer.from_pretrained(local_path("pkg://simcse_lit/data/samples/tiny", "checkpoint"))
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
    encoder = SentenceEncoder(BertModel(BertConfig(vocab_size=len(tokenizer), **sizes)), "avg", "none").eval()
    loaded = LoadedEncoder("random", "transformers", encoder, tokenizer, "avg", "none", 32)
    usage = write_table(loaded, tmp_path, "float32", 256)

    ids = tokenizer("man", return_tensors="pt")
    with torch.no_grad():
        own_1H = encoder.embed(ids["input_ids"], ids["attention_mask"]).numpy()
    monkeypatch.chdir(tmp_path)
    found: dict[str, np.ndarray] = {}
    exec(usage.code.replace('"A man is playing a guitar."', '"man"'), found)
    np.testing.assert_allclose(found["vectors"][:1], own_1H, atol=1e-5)
