"""The objective: a weighted sum of terms. A term sees a `Step` and nothing else of training.

The terms themselves are in `info_nce.py`, `mlm.py` and `methods/`.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from simcse_lit.errors import UserError
from simcse_lit.objective.step import Step, Vocabulary

Weight = float | Callable[[int, int], float]
ROLES = frozenset({"positive", "hard_negative", "soft_negative", "extra"})
EXTRAS = frozenset({"scores", "labels", "rows", "hashes"})
NEEDS = ROLES | EXTRAS | {"mlm_head", "mask_token", "kept_head"}


class Term(nn.Module):
    """One term of the objective. Write a subclass with `forward`; everything else is optional.

    The mean over the processes of what `forward` returns must be the loss of the batch of all processes. Two ways are exact:

    - the mean over this process's rows, contrasted with gathered columns (`step.gather`);
    - the value of the whole batch in every process, from gathered rows.

    A term that divides by a count divides by the mean of that count over the processes.

    Checkpoints contain the parameters and buffers of a term. Exports do not.

    Attributes:
        encoders: names of encoders of `loss.beside` that the term uses.
        widths: numbers of a vector of each of these encoders, known in `setup`.
        lr_scale: multiplies the learning rate of the term's parameters. `lr_scale` of its node sets it.
        needs: names from `NEEDS` that the run must have: a view with a role, what a batch holds beside its texts
            (`Step.extras`), the language-modelling head of the backbone, a mask token, or no head that evaluation leaves
            out.
        undecayed: names of its parameters, or of attributes that may be one, that weight decay leaves alone.
        reads_vectors: whether `forward` reads vectors of the step. If no term does, the sentences of a step are not encoded
            for them.

    Example:
        See `simcse_lit.methods.align_uniform`, and `examples/my_lab/my_lab/terms.py` for a term with state.
    """

    encoders: Sequence[str] = ()
    widths: Mapping[str, int] = MappingProxyType({})
    lr_scale: float = 1.0
    undecayed: Sequence[str] = ()
    needs: ClassVar[frozenset[str]] = frozenset()
    reads_vectors: ClassVar[bool] = True

    def setup(self, width: int, vocabulary: Vocabulary) -> None:
        """Create what depends on the encoder. Runs once, before training.

        Args:
            width: numbers of a vector, D.
            vocabulary: what the term may know about the tokenizer.

        Raises:
            UserError: the term cannot be used with this encoder.
        """

    def forward(self, step: Step) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss, and optionally numbers to log. Autocast is off, and torch's generator has a seed for this term.

        The term must not change here, because parts of it may run again in the backward pass. Use `after_step`.

        Args:
            step: the current step.

        Returns:
            The loss, a scalar; or the loss and numbers by name.
        """
        raise NotImplementedError(f"{type(self).__name__} has no forward(step)")

    def after_step(self, step: Step) -> None:
        """Update state, such as a queue, after the step of the optimiser. Gradients are off."""


class Objective(nn.Module):
    """The weighted sum of terms.

    Args:
        terms: terms by name. The sum is taken in the order of the names.
        weights: weight of each term: a number, or a function of the step and the number of steps.

    Raises:
        UserError: there is no term, a name is not valid, or a term needs something unknown.
    """

    def __init__(self, terms: Mapping[str, Term], weights: Mapping[str, Weight]) -> None:
        super().__init__()
        if not terms:
            raise UserError(
                "loss.terms: no term has a weight, so there is nothing to train. Give one: loss.terms.NAME.weight=1"
            )
        for name in terms:
            if not name.isidentifier() or hasattr(nn.ModuleDict, name):
                raise UserError(f"loss.terms.{name}: a term cannot have this name. Choose another of letters, digits and _.")
            if unknown := sorted(terms[name].needs - NEEDS):
                raise UserError(f"loss.terms.{name}: needs {unknown[0]}, which is none of {', '.join(sorted(NEEDS))}.")
        self.terms = nn.ModuleDict({name: terms[name] for name in sorted(terms)})
        self.weights = dict(weights)

    def _terms(self) -> list[Term]:
        return [cast(Term, term) for term in self.terms.values()]

    @property
    def needs(self) -> frozenset[str]:
        """Everything that some term needs."""
        return frozenset(need for term in self._terms() for need in term.needs)

    @property
    def reads_vectors(self) -> bool:
        """Whether some term reads the vectors of a step."""
        return any(term.reads_vectors for term in self._terms())

    def setup(self, width: int, vocabulary: Vocabulary, widths: Mapping[str, int] | None = None) -> None:
        """Call `Term.setup` of every term.

        Args:
            width: numbers of a vector, D.
            vocabulary: what terms may know about the tokenizer.
            widths: numbers of a vector of each encoder of `loss.beside`.

        Raises:
            UserError: a term cannot be used with this encoder.
        """
        for name, term in zip(self.terms, self._terms(), strict=True):
            if "mask_token" in term.needs and vocabulary.mask_token_id is None:
                raise UserError(f"loss.terms.{name}: the tokenizer of the backbone has no mask token. Set its weight to 0.")
            term.widths = {each: widths[each] for each in term.encoders if widths and each in widths}
            term.setup(width, vocabulary)

    def forward(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss and what is logged.

        The name of a term decides its seed, so another term does not change its draws.

        Args:
            step: the current step.

        Returns:
            The loss, a scalar; and by name the unweighted loss of each term, and its numbers as NAME/NUMBER.
        """
        losses, logged = list[Tensor](), dict[str, Tensor]()
        with torch.autocast(step.vectors_BVD.device.type, enabled=False):
            for name, term in self.terms.items():
                torch.manual_seed(step.seed(name))
                found = term(step)
                loss, numbers = found if isinstance(found, tuple) else (found, {})
                logged |= {name: loss.detach(), **{f"{name}/{each}": number for each, number in numbers.items()}}
                weight = self.weights[name]
                losses.append(loss * (weight(step.index, step.total) if callable(weight) else weight))
        return sum(losses[1:], losses[0]), logged

    @torch.no_grad()
    def after_step(self, step: Step) -> None:
        """Call `Term.after_step` of every term."""
        for term in self._terms():
            term.after_step(step)


class LinearWeight:
    """Change a weight from `start` to `end` in a straight line over the run. Use it for `loss.terms.NAME.weight`."""

    def __init__(self, start: float, end: float) -> None:
        self.start, self.end = start, end

    def __call__(self, step: int, total: int) -> float:
        """Return the weight at step `step` of `total`."""
        return self.start + (self.end - self.start) * step / max(total - 1, 1)
