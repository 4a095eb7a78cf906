"""The adapter changes no vector when it is added or merged, and trains its factors alone."""

import torch
from my_lab.adapters import Scaling
from transformers import BertConfig, BertModel


def test_scaling() -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    backbone = BertModel(BertConfig(vocab_size=100, **sizes)).eval()
    ids_NL, names = torch.arange(5, 15).reshape(2, 5), set(backbone.state_dict())
    plain_NLH = backbone(ids_NL).last_hidden_state
    adapter = Scaling(["key", "value", "intermediate.dense"])

    adapter.add(backbone)
    torch.testing.assert_close(backbone(ids_NL).last_hidden_state, plain_NLH)
    trained = [parameter for parameter in backbone.parameters() if parameter.requires_grad]
    assert sum(parameter.numel() for parameter in trained) == 2 * (32 + 32 + 64)

    with torch.no_grad():
        for parameter in trained:
            parameter.mul_(1.5)
    scaled_NLH = backbone(ids_NL).last_hidden_state
    adapter.merge(backbone)
    torch.testing.assert_close(backbone(ids_NL).last_hidden_state, scaled_NLH)
    assert set(backbone.state_dict()) == names
