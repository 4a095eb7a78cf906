"""Matryoshka: any term of the objective, for several widths of the vectors at once, so that vectors can be cut in use.

Shapes: B examples of this process, V views, N sentences, D numbers of a vector, d of a shortened one, K widths.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any, cast

from torch import Tensor, nn

from simcse_lit.errors import UserError
from simcse_lit.objective.step import Passes, Step, Vocabulary
from simcse_lit.objective.term import Term


class Matryoshka(Term):
    """Compute sum over k of w_k inner(v[:d_k]), where the inner term sees only the first d_k numbers of each vector.

    The encoder runs once: only the inner term is repeated. Each width has an instance of the inner term, made by copying, so
    queues, maps and learned temperatures work: each width has one. The inner term normalises the shortened vectors, as it
    would the whole ones. `truncate_dim` shortens vectors in the same way in use, so the head must be kept at evaluation.

    Args:
        inner: the term, such as `InfoNCE` or `CoSENT`.
        dims: the widths, one of which is D. None takes D and the four largest powers of two below it.
        weights: w_k, a weight for each width; None for 1 each.
        whole: names of encoders of `loss.beside` whose vectors the inner term sees whole: guides and teachers, whose vectors
            are compared with each other. The vectors of the others are shortened: those of a moving average of the trained
            encoder. Needed only if the inner term uses such encoders.

    Raises:
        ValueError: a width or the weights are impossible, the inner term reads no vectors, or `whole` is missing.

    Source: Kusupati et al. 2022, Matryoshka Representation Learning, equation 1; `MatryoshkaLoss` of sentence-transformers,
    from which the default widths are.
    """

    def __init__(
        self,
        inner: Term,
        dims: Sequence[int] | None = None,
        weights: Sequence[float] | None = None,
        whole: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(inner, Term):
            raise ValueError(f"inner: {type(inner).__name__} is not a subclass of simcse_lit.objective.term.Term")
        if not inner.reads_vectors:
            raise ValueError(f"inner: {type(inner).__name__} reads no vectors, so there is nothing to shorten")
        if dims is not None and (not dims or min(dims) < 1 or len(set(dims)) < len(dims)):
            raise ValueError(f"dims={[*dims]}: must be different numbers of 1 or more")
        if inner.encoders and whole is None:
            raise ValueError(
                f"whole: {type(inner).__name__} uses the encoders {', '.join(inner.encoders)} beside the trained one. "
                "List those whose vectors are not shortened: guides and teachers, but no moving average; [] for none"
            )
        if absent := sorted(set(whole or ()) - set(inner.encoders)):
            raise ValueError(f"whole: {type(inner).__name__} uses no encoder {absent[0]}")
        self.dims, self.weights, self.whole = dims, weights, frozenset(whole or ())
        self._inner = [inner]  # a list hides it: its copies are the submodules
        self.encoders = inner.encoders
        self.needs = inner.needs | {"kept_head"}  # type: ignore[misc]  # of this instance

    def setup(self, width: int, vocabulary: Vocabulary) -> None:
        """Copy the inner term for each width.

        Raises:
            UserError: D is not among the widths or is less than one of them, or there are more or fewer weights.
        """
        powers = [2**power for power in range(width.bit_length()) if 2**power < width]
        dims = sorted(self.dims or [width, *powers[-4:]], reverse=True)
        if dims[0] != width:
            raise UserError(
                f"dims={dims}: the largest must be the width of the vectors, {width}. For instance:\n"
                f"dims=[{','.join(map(str, [width, *powers[:-5:-1]]))}]"
            )
        weights = [1.0] * len(dims) if self.weights is None else self.weights
        if len(weights) != len(dims):
            raise UserError(f"weights={[*weights]}: there are {len(dims)} widths, so give {len(dims)} weights, or null.")
        given = self.dims or dims
        self.weight_of = dict(zip(map(str, given), weights, strict=True))
        self.inner = nn.ModuleDict({str(dim): deepcopy(self._inner[0]) for dim in dims})
        for dim, term in self.inner.items():
            cast(Term, term).widths = self.widths
            cast(Term, term).setup(int(dim), vocabulary)

    def forward(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the weighted sum over the widths, a scalar. The loss of each width is logged by its name."""
        total, numbers = step.vectors_BVD.new_zeros(()), dict[str, Tensor]()
        shared = _Shared(step.passes, self.whole)
        for dim, term in self.inner.items():
            found = term(_shortened(step, int(dim), shared))
            loss, own = found if isinstance(found, tuple) else (found, {})
            numbers |= {dim: loss.detach(), **{f"{dim}/{name}": number for name, number in own.items()}}
            total = total + self.weight_of[dim] * loss
        return total, numbers

    def after_step(self, step: Step) -> None:
        """Call `after_step` of the inner term of each width."""
        shared = _Shared(step.passes, self.whole)
        for dim, term in self.inner.items():
            cast(Term, term).after_step(_shortened(step, int(dim), shared))


def _shortened(step: Step, dim: int, shared: "_Shared") -> Step:
    """Return the step with the first numbers of each vector, (B, V, d)."""
    return replace(
        step,
        vectors_BVD=step.vectors_BVD[..., :dim],
        pooled_BVH=step.pooled_BVH[..., :dim],
        passes=shared.shortened(dim),
    )


class _Shared:
    """More passes of the encoder in one step. What each width asks for again is computed once.

    Args:
        passes: those of the step.
        whole: encoders whose vectors are not shortened.
    """

    def __init__(self, passes: Passes, whole: frozenset[str]) -> None:
        self._passes, self._whole = passes, whole
        self._found: dict[Any, tuple[Tensor, ...]] = {}  # also holds the ids, so that no other has their address

    def shortened(self, dim: int) -> Passes:
        """Return passes whose vectors have the first numbers only, (N, d)."""
        asked = Counter[Any]()

        def once(same: tuple[Any, ...], encoder: str | None, vectors: Callable[[], Tensor], *ids: Tensor) -> Tensor:
            asked[same] += 1  # a second pass of the same sentences has another dropout
            key = (same, asked[same])
            if key not in self._found:
                self._found[key] = (vectors(), *ids)
            vectors_ND = self._found[key][0]
            return vectors_ND if encoder in self._whole else vectors_ND[:, :dim]

        def encode(ids_NL: Tensor, mask_NL: Tensor, encoder: str | None = None, **options: Any) -> Tensor:
            same = (_place(ids_NL), _place(mask_NL), encoder, *sorted(options.items()))
            made = partial(self._passes.encode, ids_NL, mask_NL, encoder=encoder, **options)
            return once(same, encoder, made, ids_NL, mask_NL)

        def encode_view(place: int, encoder: str | None = None, **options: Any) -> Tensor:
            made = partial(self._passes.encode_view, place, encoder=encoder, **options)
            return once((place, encoder, *sorted(options.items())), encoder, made)

        return replace(self._passes, encode=encode, encode_view=encode_view)


def _place(tensor: Tensor) -> tuple[Any, ...]:
    """Return what two tensors have in common if they are views of the same numbers."""
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride()
