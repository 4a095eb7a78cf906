"""One training step, as a term of the objective sees it. Nothing here trains, and nothing imports Lightning.

Shapes: B examples of this process, V views, K some of them, L length, H numbers of a vector before the head, D after it, N
sentences, n sentences of a part, l their length, W processes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from zlib import crc32

import torch
from torch import Tensor

from simcse_lit.distributed import mean_over_ranks, sum_over_ranks, world
from simcse_lit.objective.gather import gather_rows
from simcse_lit.seeds import derived_seed


@dataclass(frozen=True)
class Vocabulary:
    """What terms may know about the tokenizer.

    Args:
        size: number of token ids.
        mask_token_id: id of the mask token; None if there is none.
        special_ids: ids of all special tokens.
    """

    size: int
    mask_token_id: int | None
    special_ids: tuple[int, ...]


@dataclass(frozen=True)
class Passes:
    """More passes of the encoder. Each is cut into chunks, packed and recomputed in the same way as the pass of the step.

    Args:
        encode: `encode(ids_NL, mask_NL, encoder=None, gradient=True, dropout=True, head=True)` returns the vectors of other
            sentences, (N, D), or (N, H) without `head`. `encoder` is a name of `loss.beside`; None is the trained encoder.
        encode_view: `encode_view(place, encoder=None, ...)` returns the vectors of view number `place`, (B, D), with the
            options of `encode`. The encoder may have another tokenizer than the trained one.
        in_chunks: `in_chunks(function, *tokens_NL, rows=())` calls `function(*parts_nl, *parts_n, packing)` for each part of
            the N = B x V sentences of the step that goes through the encoder together. It returns a list of the results.
            `rows` are further tensors with one row for each sentence, (N, ...). The function may run again in the backward
            pass, so it must not change anything.
        token_scores: `token_scores(ids_nl, mask_nl, packing, encoder=None)` returns the scores of the vocabulary at each
            token, (n, l, K), or with a packing at each slot, (R, W, K). Call it inside `in_chunks`, in a term that needs
            `mlm_head`, or for an encoder of `loss.beside` that has such a head.
        token_states: `token_states(ids_nl, mask_nl, packing, encoder=None, first_nH=None)` returns the last hidden state at
            each token, (n, l, H) or (R, W, H). `first_nH` replaces the output of the embedding layer at the first token of
            each sentence. Call it inside `in_chunks`.
    """

    encode: Callable[..., Tensor]
    encode_view: Callable[..., Tensor]
    in_chunks: Callable[..., list[Tensor]]
    token_scores: Callable[..., Tensor]
    token_states: Callable[..., Tensor]


@dataclass(frozen=True)
class Step:
    """One training step of one process.

    Args:
        ids_BVL: token ids of every view, (B, V, L).
        mask_BVL: 1 for real tokens, (B, V, L).
        pooled_BVH: vectors before the head, after template denoising, (B, V, H), float32 or better; (B, V, 0) if no term
            reads vectors.
        vectors_BVD: vectors after the head, (B, V, D), float32 or better; (B, V, 0) if no term reads vectors.
        index: number of the step, from 0.
        total: number of steps of the run.
        seed_of_run: the key `seed` of the configuration.
        passes: more passes of the encoder.
        roles: role of each view: `anchor`, `positive`, `hard_negative`, `soft_negative` or `extra`, V of them.
        extras: what the terms name in `needs`: `scores` (B,) float32; `labels` (B,) int64, equal for equal texts; `rows` of
            the corpus (B,) int64; `hashes` (B, V) int64, equal for equal token ids. With `data.optional` also
            `present` (B, V) bool, false where a text is missing.

    Example:
        A term that pulls each positive towards its anchor::

            def forward(self, step: Step) -> Tensor:
                return (step.of("anchor") - step.of("positive")).square().sum(1).mean()
    """

    ids_BVL: Tensor
    mask_BVL: Tensor
    pooled_BVH: Tensor
    vectors_BVD: Tensor
    index: int
    total: int
    seed_of_run: int
    passes: Passes = field(repr=False)
    roles: tuple[str, ...]
    extras: Mapping[str, Tensor] = field(default_factory=dict, repr=False)

    def places(self, role: str) -> list[int]:
        """Return the numbers of the views with this role; an empty list if there is none."""
        return [number for number, each in enumerate(self.roles) if each == role]

    def of(self, role: str) -> Tensor:
        """Return the vectors of the first view with this role, (B, D).

        Raises:
            KeyError: there is no such view. If the term names the role in `needs`, the run is refused before training.
        """
        if not (places := self.places(role)):
            raise KeyError(f"no view is a {role}; the roles are {', '.join(self.roles)}. Name it in `needs` of the term.")
        return self.vectors_BVD[:, places[0]]

    def encoded_by(self, encoder: str, places: Sequence[int]) -> Tensor:
        """Encode views of this step with an encoder of `loss.beside`, without gradient.

        Views with the same token ids are encoded once. The encoder may have another tokenizer.

        Args:
            encoder: its name.
            places: numbers of the views, K of them.

        Returns:
            (B, K, D), D of that encoder.
        """
        found: dict[int, Tensor] = {}
        for place in places:
            # the host waits for a GPU here, which is quicker than another pass
            same = (other for other in found if torch.equal(self.ids_BVL[:, other], self.ids_BVL[:, place]))
            copy = next(same, None)
            found[place] = self.passes.encode_view(place, encoder=encoder, gradient=False) if copy is None else found[copy]
        return torch.stack([found[place] for place in places], dim=1)

    @property
    def first(self) -> int:
        """Row of this process's first example in the batch of all processes."""
        return world()[0] * len(self.vectors_BVD)

    @property
    def processes(self) -> int:
        """Number of processes, W."""
        return world()[1]

    def gather(self, rows_B: Tensor) -> Tensor:
        """Gather the rows of all processes with gradient, (B, ...) to (W x B, ...). `gather.py` says why this is exact."""
        return gather_rows(rows_B)

    def sum(self, value: Tensor) -> Tensor:
        """Sum a tensor over all processes, without gradient."""
        return sum_over_ranks(value)

    def mean(self, value: Tensor) -> Tensor:
        """Average a tensor over all processes, without gradient."""
        return mean_over_ranks(value)

    def seed(self, name: str) -> int:
        """Derive a seed from the seed of the run, the step, the process and a name."""
        return derived_seed(self.seed_of_run, self.index, world()[0], crc32(name.encode()))
