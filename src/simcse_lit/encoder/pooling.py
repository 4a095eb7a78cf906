"""The poolers: from a backbone's hidden states to one vector a sentence. Tensor code only.

Shapes: N sentences, L length, H hidden. `hidden_states` is the tuple of transformers: the output of the embedding layer,
then that of each transformer layer. Means leave padding out.
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
    """First token of the last layer, (N, H). Source: SimCSE section 6.3."""
    return hidden_states[-1][:, 0]


def avg(hidden_states: Sequence[Tensor], attention_mask_NL: Tensor) -> Tensor:
    """Mean of the last layer, (N, H)."""
    return masked_mean(hidden_states[-1], attention_mask_NL)


def avg_first_last(hidden_states: Sequence[Tensor], attention_mask_NL: Tensor) -> Tensor:
    """Mean of the first and the last transformer layer, (N, H).

    The first layer is `hidden_states[1]`. `hidden_states[0]` is the static embedding layer, which the paper's printed
    BERT baseline averaged by mistake.

    Source: SimCSE Table 6, "first-last avg.".
    """
    return masked_mean((hidden_states[1] + hidden_states[-1]) / 2, attention_mask_NL)


def avg_top2(hidden_states: Sequence[Tensor], attention_mask_NL: Tensor) -> Tensor:
    """Mean of the last two layers, (N, H). With a backbone of one layer these are the embedding layer and that layer."""
    return masked_mean((hidden_states[-2] + hidden_states[-1]) / 2, attention_mask_NL)


def last_token(hidden_states: Sequence[Tensor], attention_mask_NL: Tensor) -> Tensor:
    """Last real token of the last layer, (N, H), with padding on either side. In a decoder it is the one token that attends
    to the whole sentence.
    """
    places_L = torch.arange(attention_mask_NL.shape[1], device=attention_mask_NL.device)
    last_N = (attention_mask_NL * places_L).amax(1)
    # shape[0] and not len(): torch.export keeps the former dynamic
    return hidden_states[-1][torch.arange(last_N.shape[0], device=last_N.device), last_N]


# Poolers that read only the first token of the last layer.
OF_FIRST_TOKEN = ("cls", "cls_before_pooler")
# `cls_before_pooler` reads the same token as `cls`, but is never projected at evaluation (config/checks/train.py).
POOLERS: dict[str, Pooler] = {
    "cls": cls,
    "cls_before_pooler": cls,
    "avg": avg,
    "avg_first_last": avg_first_last,
    "avg_top2": avg_top2,
    "last_token": last_token,
}
