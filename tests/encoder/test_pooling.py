"""Every pooler against a value worked out token by token, under padding."""

import pytest
import torch

from simcse_lit.config.registered import OURS
from tests.encoders import pooler_of, ragged_batch, small_bert

LENGTHS = [6, 2, 9, 1]


@pytest.mark.parametrize("name", list(OURS["pooler"]))
def test_pooler_equals_a_value_computed_sentence_by_sentence(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    hidden_states = [torch.randn(4, 9, 8, generator=generator) for _ in range(4)]
    _, mask = ragged_batch(LENGTHS)
    pooled = pooler_of(name)(hidden_states, mask)
    for row, length in enumerate(LENGTHS):
        tokens = {
            "cls": [hidden_states[-1][row, 0]],
            "cls_before_pooler": [hidden_states[-1][row, 0]],
            "last_token": [hidden_states[-1][row, length - 1]],
            "mask": [hidden_states[-1][row, max(length - 2, 0)]],
            "avg": [hidden_states[-1][row, t] for t in range(length)],
            "avg_first_last": [hidden_states[layer][row, t] for layer in (1, 3) for t in range(length)],
            "avg_top2": [hidden_states[layer][row, t] for layer in (2, 3) for t in range(length)],
        }[name]
        torch.testing.assert_close(pooled[row], sum(tokens, torch.zeros(8)) / len(tokens))


@pytest.mark.parametrize("name", list(OURS["pooler"]))
def test_padding_changes_no_sentence(name: str) -> None:
    model = small_bert().eval()
    ids, mask = ragged_batch(LENGTHS, width=20)
    together = pooler_of(name)(model(ids, attention_mask=mask, output_hidden_states=True).hidden_states, mask)
    for row, length in enumerate(LENGTHS):
        alone = model(ids[row : row + 1, :length], output_hidden_states=True).hidden_states
        expected = pooler_of(name)(alone, torch.ones(1, length, dtype=torch.long))
        torch.testing.assert_close(together[row], expected[0])


def test_last_token_is_found_wherever_the_padding_stands() -> None:
    hidden = torch.randn(4, 9, 8, generator=torch.Generator().manual_seed(0))
    _, right = ragged_batch(LENGTHS)
    for mask in (right, right.flip(1)):
        expected = [hidden[row, max(place for place in range(9) if mask[row, place])] for row in range(4)]
        assert torch.equal(pooler_of("last_token")([hidden], mask), torch.stack(expected))
