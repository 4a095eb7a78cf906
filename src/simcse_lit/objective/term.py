"""The objective: a weighted sum of terms, each of which sees the step and nothing else of training."""

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from simcse_lit.errors import UserError
from simcse_lit.objective.step import Step, Vocabulary

Weight = float | Callable[[int, int], float]
ROLES = frozenset({"hard_negative", "soft_negative", "extra"})
EXTRAS = frozenset({"scores", "labels", "rows", "hashes"})
NEEDS = ROLES | EXTRAS | {"mlm_head", "mask_token"}


class Term(nn.Module):
    """One term of the objective. Write a subclass with `forward`; the rest is optional.

    The mean over the processes of what `forward` returns must be the loss of the batch of all processes. Two ways are exact:
    the mean over this process's rows, contrasted with gathered columns (`step.gather`); or the whole batch's value in every
    process, from gathered rows. A term that divides by a count divides by the mean of that count over the processes.

    Parameters and buffers are the term's own, and are in the run's checkpoints. An export holds nothing of them.

    Attributes:
        encoders: names of encoders of `loss.beside` that it uses.
        lr_scale: multiplies the learning rate of its parameters; `lr_scale` of its node sets it.
        needs: what must be there, of `NEEDS`: a view of a role, what the batch holds beside its texts (`Step.extras`), the
            backbone's language-modelling head, or a mask token.
    """

    encoders: Sequence[str] = ()
    lr_scale: float = 1.0
    needs: ClassVar[frozenset[str]] = frozenset()

    def setup(self, width: int, vocabulary: Vocabulary) -> None:
        """Make what depends on the encoder, once, before training.

        Args:
            width: numbers of a vector, D.
            vocabulary: of the backbone.

        Raises:
            UserError: the term cannot be used with this encoder.
        """

    def forward(self, step: Step) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """The loss, a scalar, and numbers to log beside it. Autocast is off, and torch's generator is the term's own.

        Nothing of the term may change here, since a part of it may run again in the backward pass: see `after_step`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no forward(step)")

    def after_step(self, step: Step) -> None:
        """Change what the term holds, as a queue, once the optimiser has stepped. Gradients are off."""


class Objective(nn.Module):
    """The weighted sum of terms.

    Args:
        terms: by name; the sum is taken in the order of the names.
        weights: of each term: a number, or a function of the step and the number of steps.

    Raises:
        UserError: there is no term, a name cannot be one, or a term needs what is not known.
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
        """What any of the terms needs."""
        return frozenset(need for term in self._terms() for need in term.needs)

    def setup(self, width: int, vocabulary: Vocabulary) -> None:
        """As `Term.setup`, of every term.

        Raises:
            UserError: a term cannot be used with this encoder.
        """
        for name, term in zip(self.terms, self._terms(), strict=True):
            if "mask_token" in term.needs and vocabulary.mask_token_id is None:
                raise UserError(f"loss.terms.{name}: the tokenizer of the backbone has no mask token. Set its weight to 0.")
            term.setup(width, vocabulary)

    def forward(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, a scalar, and what is logged: every term by its name, unweighted, and NAME/NUMBER of its own numbers.

        A term draws from a seed that its name decides, so another term changes none of its draws.
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
        """As `Term.after_step`, of every term."""
        for term in self._terms():
            term.after_step(step)


class LinearWeight:
    """A weight that goes from `start` to `end` in a straight line over the run, for `loss.terms.NAME.weight`."""

    def __init__(self, start: float, end: float) -> None:
        self.start, self.end = start, end

    def __call__(self, step: int, total: int) -> float:
        """The weight at a step of so many."""
        return self.start + (self.end - self.start) * step / max(total - 1, 1)
