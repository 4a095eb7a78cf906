"""The masked-language-modelling auxiliary objective: which tokens are masked, and the loss of predicting them.

Shapes: N sentences, L length, K vocabulary.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORED = -100


def mask_tokens(
    input_ids_NL: Tensor, maskable_NL: Tensor, *, mask_token_id: int, vocab_size: int, probability: float
) -> tuple[Tensor, Tensor]:
    """Choose tokens to predict; replace 80 % of them by the mask token, 10 % by a random token, and keep 10 %.

    Args:
        input_ids_NL: token ids, (N, L); not changed.
        maskable_NL: true where a token may be chosen, (N, L): no padding and no special tokens.
        mask_token_id: id of the tokenizer's mask token.
        vocab_size: random tokens are drawn below it.
        probability: share of the maskable tokens that is chosen; the paper uses 0.15.

    Returns:
        (corrupted ids, labels), both (N, L); labels are -100 where nothing is to be predicted.

    Source: BERT section 3.1; SimCSE section 6.1 ("MLM auxiliary objective") and Table D.2.
    """
    device = input_ids_NL.device
    chosen_NL = (torch.rand(input_ids_NL.shape, device=device) < probability) & maskable_NL
    labels_NL = input_ids_NL.masked_fill(~chosen_NL, IGNORED)
    fate_NL = torch.rand(input_ids_NL.shape, device=device)
    random_NL = torch.randint(vocab_size, input_ids_NL.shape, device=device)
    corrupted_NL = torch.where(chosen_NL & (fate_NL < 0.8), mask_token_id, input_ids_NL)
    corrupted_NL = torch.where(chosen_NL & (fate_NL >= 0.9), random_NL, corrupted_NL)
    return corrupted_NL, labels_NL


def mlm_loss(logits_NLK: Tensor, labels_NL: Tensor, targets: Tensor | None = None) -> Tensor:
    """Mean cross-entropy over the tokens to predict; 0 when there is none, where a plain mean would be NaN.

    Args:
        logits_NLK: scores of the vocabulary, (N, L, K).
        labels_NL: from `mask_tokens`, (N, L).
        targets: by how many tokens to divide, if these sentences are only a part; None for those of `labels_NL`.

    Returns:
        Scalar, in nats; its gradient is 0 when no token was chosen.

    Source: SimCSE section 6.1.
    """
    logits_NLK = logits_NLK.to(torch.promote_types(logits_NLK.dtype, torch.float32))
    total = F.cross_entropy(logits_NLK.flatten(0, 1), labels_NL.flatten(), ignore_index=IGNORED, reduction="sum")
    return total / ((labels_NL != IGNORED).sum().clamp(min=1) if targets is None else targets)
