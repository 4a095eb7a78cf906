"""Masked language modelling, beside the contrastive loss or alone: which tokens are masked, and the loss of predicting them.

Shapes: B examples, V views, L length, N = B x V sentences, n of them, l of their tokens, K vocabulary.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from simcse_lit.objective.step import Step, Vocabulary
from simcse_lit.objective.term import Term

IGNORED = -100


def mask_tokens(
    input_ids_NL: Tensor, maskable_NL: Tensor, *, mask_token_id: int, vocab_size: int, probability: float
) -> tuple[Tensor, Tensor]:
    """Choose tokens to predict. Replace 80 % of them by the mask token and 10 % by a random token, and keep 10 %.

    Args:
        input_ids_NL: token ids, (N, L). They are not changed.
        maskable_NL: true where a token may be chosen, (N, L): not at padding or special tokens.
        mask_token_id: id of the mask token of the tokenizer.
        vocab_size: random token ids are below this number.
        probability: share of the maskable tokens that is chosen; the paper uses 0.15.

    Returns:
        The changed ids and the labels, both (N, L). A label is -100 where nothing is predicted.

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
    """Compute the mean cross-entropy over the tokens to predict. It is 0 if there is none; a plain mean would be NaN.

    Args:
        logits_NLK: scores of the vocabulary, (N, L, K).
        labels_NL: from `mask_tokens`, (N, L).
        targets: the number of tokens to divide by, if these sentences are a part of the batch. None: count those of
            `labels_NL`.

    Returns:
        Scalar, in nats. Its gradient is 0 if no token was chosen.

    Source: SimCSE section 6.1.
    """
    logits_NLK = logits_NLK.to(torch.promote_types(logits_NLK.dtype, torch.float32))
    total = F.cross_entropy(logits_NLK.flatten(0, 1), labels_NL.flatten(), ignore_index=IGNORED, reduction="sum")
    return total / ((labels_NL != IGNORED).sum().clamp(min=1) if targets is None else targets)


def mlm_counts(logits_NLK: Tensor, labels_NL: Tensor) -> Tensor:
    """Sum what the loss and the accuracy of held-out text are made of.

    Args:
        logits_NLK: scores of the vocabulary, (N, L, K).
        labels_NL: from `mask_tokens`, (N, L).

    Returns:
        The cross-entropy in nats, the number of tokens that are predicted right, and the number of tokens to predict, (3,).
    """
    chosen_NL = labels_NL != IGNORED
    logits_TK, labels_T = logits_NLK[chosen_NL], labels_NL[chosen_NL]
    logits_TK = logits_TK.to(torch.promote_types(logits_TK.dtype, torch.float32))
    loss = F.cross_entropy(logits_TK, labels_T, reduction="sum")
    right_T = logits_TK.argmax(1) == labels_T
    return torch.stack([loss, right_T.sum().to(loss.dtype), chosen_NL.sum().to(loss.dtype)])


class Masking(nn.Module):
    """Choose and change tokens with `mask_tokens`, with the ids of a tokenizer: no special tokens and no padding.

    Args:
        probability: share of the other tokens that is chosen.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability
        self.special_ids: Tensor
        self.register_buffer("special_ids", torch.empty(0, dtype=torch.long), persistent=False)

    def setup(self, vocabulary: Vocabulary) -> None:
        """Store the ids of the tokenizer, which has a mask token."""
        assert vocabulary.mask_token_id is not None
        self.mask_token_id, self.vocab_size = vocabulary.mask_token_id, vocabulary.size
        self.special_ids = torch.tensor(vocabulary.special_ids, device=self.special_ids.device)

    def forward(self, ids_NL: Tensor, mask_NL: Tensor) -> tuple[Tensor, Tensor]:
        """Return the changed ids and the labels of `mask_tokens`, from ids and mask, (N, L) each."""
        maskable_NL = mask_NL.bool() & ~torch.isin(ids_NL, self.special_ids)
        return mask_tokens(
            ids_NL,
            maskable_NL,
            mask_token_id=self.mask_token_id,
            vocab_size=self.vocab_size,
            probability=self.probability,
        )


class MaskedLanguageModel(Term):
    """Predict masked tokens of all views. Each view has other masked tokens.

    Args:
        probability: share of the tokens that is chosen.

    Source: SimCSE section 6.1 and Table D.2.
    """

    needs = frozenset({"mlm_head", "mask_token"})
    reads_vectors = False

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.masking = Masking(probability)

    def setup(self, width: int, vocabulary: Vocabulary) -> None:
        """Store the ids of the tokenizer."""
        self.masking.setup(vocabulary)

    def forward(self, step: Step) -> Tensor:
        """Compute the cross-entropy in nats, divided by the mean number of chosen tokens over the processes, a scalar."""
        ids_NL, mask_NL = step.ids_BVL.flatten(0, 1), step.mask_BVL.flatten(0, 1)
        corrupted_NL, labels_NL = self.masking(ids_NL, mask_NL)
        targets = step.mean((labels_NL != IGNORED).sum()).clamp(min=1 / step.processes)

        def part(ids_nl: Tensor, mask_nl: Tensor, labels_nl: Tensor, packing: Any) -> Tensor:
            labels = labels_nl if packing is None else packing.pack(labels_nl, IGNORED)
            return mlm_loss(step.passes.token_scores(ids_nl, mask_nl, packing), labels, targets)

        return torch.stack(step.passes.in_chunks(part, corrupted_NL, mask_NL, labels_NL)).sum()
