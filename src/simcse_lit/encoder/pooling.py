"""The poolers: from a backbone's hidden states to one vector a sentence. Pure tensor code, called by `encoder.py`.

Shapes: N sentences, L length, H hidden. `hidden_states` is transformers' tuple: the embedding layer's output first, then
each transformer layer's. Padding never enters a mean.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Pooler = Callable[[Sequence[Tensor], Tensor], Tensor]


def masked_mean(hidden_NLH: Tensor, attention_mask_NL: Tensor) -> Tensor:
    """Mean over the real tokens of each sentence.

    Args:
        hidden_NLH: token vectors, (N, L, H).
        attention_mask_NL: 1 for real tokens, 0 for padding, (N, L).

    Returns:
        (N, H).
    """
    mask_NL1 = attention_mask_NL.unsqueeze(-1).to(hidden_NLH.dtype)
    return (hidden_NLH * mask_NL1).sum(1) / mask_NL1.sum(1).clamp(min=1)


def cls(hidden_states: Sequence[Tensor], attention_mask_NL: Tensor) -> Tensor:
    """The first token of the last layer, (N, H). SimCSE section 6.3."""
    return hidden_states[-1][:, 0]


def avg(hidden_states: Sequence[Tensor], attention_mask_NL: Tensor) -> Tensor:
    """Mean of the last layer, (N, H)."""
    return masked_mean(hidden_states[-1], attention_mask_NL)


def avg_first_last(hidden_states: Sequence[Tensor], attention_mask_NL: Tensor) -> Tensor:
    """Mean of the first and the last transformer layer, (N, H). Table 6 ("first-last avg.").

    The first layer is `hidden_states[1]`; `hidden_states[0]` is the static embedding layer, which the paper's printed
    BERT baseline averaged by mistake.
    """
    return masked_mean((hidden_states[1] + hidden_states[-1]) / 2, attention_mask_NL)


def avg_top2(hidden_states: Sequence[Tensor], attention_mask_NL: Tensor) -> Tensor:
    """Mean of the last two layers, (N, H). A backbone of one layer averages it with the embedding layer."""
    return masked_mean((hidden_states[-2] + hidden_states[-1]) / 2, attention_mask_NL)


def last_token(hidden_states: Sequence[Tensor], attention_mask_NL: Tensor) -> Tensor:
    """The last real token of the last layer, (N, H), wherever the padding stands: the one that sees the whole sentence in a
    decoder.
    """
    places_L = torch.arange(attention_mask_NL.shape[1], device=attention_mask_NL.device)
    last_N = (attention_mask_NL * places_L).amax(1)
    # shape[0] and not len(): an exported graph keeps the former open
    return hidden_states[-1][torch.arange(last_N.shape[0], device=last_N.device), last_N]


# Those that read the first token of the last layer and nothing else.
OF_FIRST_TOKEN = ("cls", "cls_before_pooler")
# `cls_before_pooler` reads what `cls` reads; it differs in never being projected at evaluation (config/checks/train.py).
POOLERS: dict[str, Pooler] = {
    "cls": cls,
    "cls_before_pooler": cls,
    "avg": avg,
    "avg_first_last": avg_first_last,
    "avg_top2": avg_top2,
    "last_token": last_token,
}
