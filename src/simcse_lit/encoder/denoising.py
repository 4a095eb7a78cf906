"""Template denoising: subtracts from each vector what the template alone contributes to it.

The bare template, without the sentence, goes through the encoder too. Its tokens behind the sentence keep the position ids
that they have in the whole text, so the vector of the bare template depends on the length of the sentence.

Shapes: N sentences, L length, T tokens of the template with special tokens, R different bare templates, H hidden.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

RECORDED = "denoising"  # in what exports and checkpoints record; absent without denoising in use


@dataclass(frozen=True)
class Denoising:
    """How the bare template of a sentence is read from its token ids. Padding must be on the right.

    Args:
        before: tokens of the template before the sentence, with special tokens.
        after: tokens of the template after the sentence, with special tokens.
        when: `training`; or `always`, which also subtracts at evaluation and in use.

    The official code counts the position ids of the bare template from 0 in RoBERTa too. Here they start where those of
    RoBERTa's sentences start.

    Source: Jiang et al. 2022, PromptBERT: Improving BERT Sentence Embeddings with Prompts, "template denoising".
    """

    before: int
    after: int
    when: Literal["training", "always"] = "training"

    @property
    def around(self) -> tuple[int, int]:
        """Tokens of the template before and after the sentence, with special tokens."""
        return self.before, self.after

    def bare(self, ids_NL: Tensor, mask_NL: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the different bare templates of some sentences: one for each template and length of a sentence.

        Args:
            ids_NL: token ids, (N, L).
            mask_NL: 1 for real tokens, (N, L).

        Returns:
            Token ids (R, T); position ids from 0 (R, T); and the row of each sentence's bare template, (N,).
        """
        behind = torch.arange(self.after, device=ids_NL.device)
        rest_N = mask_NL.sum(1) - self.after  # where the template continues behind the sentence
        columns_NT = (rest_N[:, None] + behind).clamp(min=0)
        ids_NT = torch.cat([ids_NL[:, : self.before], ids_NL.gather(1, columns_NT)], dim=1)
        table_RT, rows_N = torch.cat([ids_NT, rest_N[:, None]], dim=1).unique(dim=0, return_inverse=True)
        before_RT = torch.arange(self.before, device=ids_NL.device).expand(len(table_RT), -1)
        positions_RT = torch.cat([before_RT, (table_RT[:, -1:] + behind).clamp(min=0)], dim=1)
        return table_RT[:, :-1], positions_RT, rows_N

    def __call__(
        self, pooled_NH: Tensor, ids_NL: Tensor, mask_NL: Tensor, pooled: Callable[[Tensor, Tensor, Tensor], Tensor]
    ) -> Tensor:
        """Subtract the vectors of the bare templates, (N, H) to (N, H). Each is computed once, with its gradient.

        Args:
            pooled_NH: vectors of the sentences before the head, (N, H).
            ids_NL: token ids of the sentences, (N, L).
            mask_NL: 1 for real tokens, (N, L).
            pooled: computes vectors before the head from ids, mask and position ids, (R, T) each.
        """
        ids_RT, positions_RT, rows_N = self.bare(ids_NL, mask_NL)
        bare_RH = pooled(ids_RT, torch.ones_like(ids_RT), positions_RT)
        return pooled_NH - bare_RH.index_select(0, rows_N)

    def record(self) -> dict[str, Any]:
        """Return what an export and a checkpoint record: nothing unless it is also subtracted in use."""
        return {RECORDED: {"before": self.before, "after": self.after}} if self.when == "always" else {}


def recorded_denoising(section: Mapping[str, Any]) -> Denoising | None:
    """Return the denoising that an export or a checkpoint records; None for none.

    Raises:
        ValueError: it does not have the form of `Denoising.record`.
    """
    kept = section.get(RECORDED)
    if kept is None:
        return None
    if not isinstance(kept, Mapping) or not all(isinstance(kept.get(key), int) for key in ("before", "after")):
        raise ValueError(f"its {RECORDED} does not say how many tokens stand around a sentence")
    return Denoising(kept["before"], kept["after"], "always")
