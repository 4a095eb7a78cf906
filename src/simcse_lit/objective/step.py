"""What a term of the objective is given of a training step.

Shapes: B examples of this process, V views, L length, H numbers of a pooled vector, D behind the head; N sentences, n of
them, l of their tokens.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from zlib import crc32

from torch import Tensor

from simcse_lit.distributed import mean_over_ranks, sum_over_ranks, world
from simcse_lit.objective.gather import gather_rows
from simcse_lit.seeds import derived_seed


@dataclass(frozen=True)
class Vocabulary:
    """What terms know of the tokenizer.

    Args:
        size: number of token ids.
        mask_token_id: id of the mask token; None without one.
        special_ids: ids of all special tokens.
    """

    size: int
    mask_token_id: int | None
    special_ids: tuple[int, ...]


@dataclass(frozen=True)
class Passes:
    """Further passes of the encoder, each planned, packed and recomputed as the step's own is.

    Args:
        encode: `encode(ids_NL, mask_NL, encoder=None, gradient=True, dropout=True, head=True)`: the vectors of other
            sentences, (N, D); of an encoder of `loss.beside` by its name. Without `head`, (N, H).
        in_chunks: `in_chunks(function, *tokens_NL, rows=())` calls `function(*parts_nl, *parts_n, packing)` for each part of
            the step's N = B x V sentences that goes through the encoder together, and returns what the calls returned.
            `rows` are further tensors with one row a sentence, (N, ...). The function may run again in the backward pass,
            so it changes nothing.
        token_scores: `token_scores(ids_nl, mask_nl, packing)`: scores of the vocabulary at each token, inside `in_chunks`,
            for a term that needs `mlm_head`.
    """

    encode: Callable[..., Tensor]
    in_chunks: Callable[..., list[Tensor]]
    token_scores: Callable[..., Tensor]


@dataclass(frozen=True)
class Step:
    """One training step of one process.

    Args:
        ids_BVL: token ids of every view, (B, V, L).
        mask_BVL: 1 for real tokens, (B, V, L).
        pooled_BVH: the vectors before the head, (B, V, H), float32 or better.
        vectors_BVD: the vectors of every view behind the head, (B, V, D), float32 or better.
        index: number of the step, from 0.
        total: number of steps of the run.
        seed_of_run: `seed` of `conf/`.
        passes: further passes of the encoder.
        roles: of the views: `anchor`, `positive`, `hard_negative`, `soft_negative` or `extra`, V of them.
        extras: what a term names in `needs`: `scores` (B,) float32; `labels` (B,) int64, equal for equal texts; `rows` of
            the corpus (B,) int64; `hashes` (B, V) int64, equal for equal token ids. With `data.optional` also
            `present` (B, V) bool, false where a text is missing.
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
        """The numbers of the views of a role; none if there is no such view."""
        return [number for number, each in enumerate(self.roles) if each == role]

    def of(self, role: str) -> Tensor:
        """The vectors of the first view of a role, (B, D).

        Raises:
            KeyError: there is no such view. A term that names the role in `needs` is refused before training.
        """
        if not (places := self.places(role)):
            raise KeyError(f"no view is a {role}; there are {', '.join(self.roles)}. Name it in `needs` of the term.")
        return self.vectors_BVD[:, places[0]]

    @property
    def first(self) -> int:
        """Place of this process's first example in the batch of all processes."""
        return world()[0] * len(self.vectors_BVD)

    @property
    def processes(self) -> int:
        """Number of processes, W."""
        return world()[1]

    def gather(self, rows_B: Tensor) -> Tensor:
        """The rows of all processes with gradient, (B, ...) to (W x B, ...); see `gather.py`."""
        return gather_rows(rows_B)

    def sum(self, value: Tensor) -> Tensor:
        """The sum of a tensor over all processes, without gradient."""
        return sum_over_ranks(value)

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a tensor over all processes, without gradient."""
        return mean_over_ranks(value)

    def seed(self, name: str) -> int:
        """A seed that the run, the step, the process and a name decide."""
        return derived_seed(self.seed_of_run, self.index, world()[0], crc32(name.encode()))
