"""DiffCSE: a discriminator must see which tokens a generator replaced, and knows the sentence by its vector only.

`conf/loss/diffcse.yaml` joins the term, its discriminator, a generator of `frozen.py` and the head of `batch_norm_head.py`.

Shapes: B examples, V views, N = B x V sentences, L length, H numbers of a vector; a chunk has n sentences of l tokens.
"""

from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.errors import UserError
from simcse_lit.objective.mlm import IGNORED, Masking
from simcse_lit.objective.step import Step, Vocabulary
from simcse_lit.objective.term import Term
from simcse_lit.training.beside import Beside


class Discriminator(Beside):
    """A copy of the pretrained backbone without pooler and head, which is trained too and doubles the memory for weights."""

    trained = True

    def setup(self, encoder: SentenceEncoder, tokenizer: PreTrainedTokenizerFast) -> None:
        """Copy the backbone.

        Raises:
            UserError: a vector of the encoder cannot stand for the embedding of a token.
        """
        if not encoder.takes_first:
            kind = encoder.backbone.config.model_type
            raise UserError(
                f"loss.beside: a backbone of type {kind} cannot be a discriminator, because its embeddings are not vectors\n"
                "of the size of its states. Use BERT or RoBERTa."
            )
        self.encoder = SentenceEncoder(deepcopy(encoder.backbone), "cls", "none")


class ReplacedTokens(Term):
    """Classify each token as original or replaced, from the tokens and the vector of the original sentence.

    Of the chosen tokens, 80 % are masked, 10 % drawn at random and 10 % kept. The generator then replaces every token but
    the first by its most likely token, so a token may be replaced that was not chosen. This is what the official code does.
    In the paper, only chosen tokens are replaced (recalled, not verified). The vector of the sentence overwrites the output
    of the discriminator's embedding layer at the first token. The term is the mean cross-entropy over the tokens of all
    views. Its gradient reaches the encoder through the vector alone.

    Use `Replacement` (`augmentation=mlm`) to make positives with a language model.

    Args:
        rate: share of the tokens that is chosen.
        over: `attended`; or `all`, which counts padding too, as original tokens. That is the mean of the official code. A
            sentence is then padded to the longest of the process, and the discriminator gets neither chunks of similar
            length nor packed rows.
        before_head: give the discriminator the vector before the head.

    Raises:
        ValueError: the rate is not between 0 and 1, or `over` is unknown.

    Source: Chuang et al. 2022, DiffCSE: Difference-based Contrastive Learning for Sentence Embeddings, section 3.
    """

    needs = frozenset({"mask_token"})
    encoders = ("discriminator", "generator")

    def __init__(self, rate: float, over: str = "attended", before_head: bool = False) -> None:
        super().__init__()
        if not 0 < rate < 1:
            raise ValueError(f"rate={rate}: must be greater than 0 and below 1, a share of the tokens")
        if over not in ("attended", "all"):
            raise ValueError(f"over={over}: must be attended or all")
        self.over, self.before_head = over, before_head
        self.masking = Masking(rate)

    def setup(self, width: int, vocabulary: Vocabulary) -> None:
        """Create the classifier, with weights from N(0, 0.02), and store the ids of the tokenizer."""
        self.masking.setup(vocabulary)
        self.classifier = nn.Linear(width, 2)
        nn.init.normal_(self.classifier.weight, std=0.02)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the cross-entropy in nats, and the shares of replaced tokens and of right answers, which are logged."""
        ids_NL, mask_NL = step.ids_BVL.flatten(0, 1), step.mask_BVL.flatten(0, 1)
        vectors_NH = (step.pooled_BVH if self.before_head else step.vectors_BVD).flatten(0, 1)
        guessed_NL = self._guessed(step, self.masking(ids_NL, mask_NL)[0], mask_NL)
        keeps_NL = ~mask_NL.bool()
        keeps_NL[:, 0] = True
        guessed_NL = torch.where(keeps_NL, ids_NL, guessed_NL)
        labels_NL = (guessed_NL != ids_NL).long()
        if self.over == "attended":
            labels_NL = labels_NL.masked_fill(mask_NL == 0, IGNORED)
        count = step.mean((labels_NL != IGNORED).sum())

        def part(guessed_nl: Tensor, mask_nl: Tensor, labels_nl: Tensor, vector_nH: Tensor, packing: Any) -> Tensor:
            beside: dict[str, Any] = {"encoder": "discriminator", "first_nH": vector_nH}
            logits = self.classifier(step.passes.token_states(guessed_nl, mask_nl, packing, **beside)).flatten(0, 1)
            labels = (labels_nl if packing is None else packing.pack(labels_nl, IGNORED)).flatten()
            loss = F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
            return torch.stack([loss, (logits.argmax(1) == labels).sum().to(loss.dtype)])

        def padded_part(mask_nl: Tensor, guessed_nL: Tensor, mask_nL: Tensor, labels_nL: Tensor, *more: Any) -> Tensor:
            return part(guessed_nL, mask_nL, labels_nL, more[0], None)

        tokens = (guessed_NL, mask_NL, labels_NL)
        if self.over == "attended":
            parts = step.passes.in_chunks(part, *tokens, rows=(vectors_NH,))
        else:  # a chunk cuts only what is not in `rows`
            parts = step.passes.in_chunks(padded_part, mask_NL, rows=(*tokens, vectors_NH))
        loss, right = torch.stack(parts).sum(0) / count
        return loss, {"replaced": (labels_NL == 1).sum() / count, "accuracy": right.detach()}

    @torch.no_grad()
    def _guessed(self, step: Step, ids_NL: Tensor, mask_NL: Tensor) -> Tensor:
        """Return the generator's most likely token at each place, (N, L)."""

        def part(ids_nl: Tensor, mask_nl: Tensor, number_n: Tensor, packing: Any) -> Tensor:
            scores = step.passes.token_scores(ids_nl, mask_nl, packing, encoder="generator")
            guess = scores[..., : self.masking.vocab_size].argmax(-1)  # a matrix of embeddings may have rows without a token
            guess_nl = guess if packing is None else packing.unpack(guess[..., None], ids_nl.shape).squeeze(-1)
            return torch.cat([number_n[:, None], F.pad(guess_nl, (0, ids_NL.shape[1] - ids_nl.shape[1]))], dim=1)

        number_N = torch.arange(len(ids_NL), device=ids_NL.device)
        parts_NL = torch.cat(step.passes.in_chunks(part, ids_NL, mask_NL, rows=(number_N,)))
        return parts_NL[parts_NL[:, 0].argsort(), 1:]
