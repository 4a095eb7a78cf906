"""InfoNCE as a term of the objective: the contrastive loss of SimCSE, with a place for each change that others make to it.

`contrastive.py` has its formulas as functions, and `parts.py` the base classes of extra negatives and masks.

Shapes: B anchors of this process, N = W x B candidates of all processes, K extra negatives, C columns of all candidates,
D numbers of a vector, W processes.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from simcse_lit.objective.contrastive import (
    contrastive_logits,
    contrastive_loss,
    multi_positive_loss,
    own_similarities,
    similarities,
)
from simcse_lit.objective.parts import Mask, Negatives, Part, log_weights
from simcse_lit.objective.step import Step, Vocabulary
from simcse_lit.objective.term import Term


class InfoNCE(Term):
    """Compute the cross-entropy of each anchor's positive among all candidates.

    The candidates are the views with the roles `positive` and `hard_negative`, from all processes. With several views of
    positives, the loss is the mean over them, and each is also a candidate for the others: equation 2 of Khosla et al. 2020,
    Supervised Contrastive Learning.

    The order is fixed: similarity, transform of the positive, division by the temperature, extra negatives, masks, and the
    sum over the denominator in float32.

    Args:
        temperature: tau > 0; the paper uses 0.05.
        learn_temperature: train the temperature, starting at `temperature`, as CLIP does.
        similarity: `cosine` or `dot`.
        hard_negative_weight: number added to the logit of a row's own hard negative, ln(alpha) of Table 7.
        directions: `rows`; or `both`, which also contrasts each positive with all anchors and takes the mean of the two.
        denominator: `all`; or `negatives`, which leaves the positive out (decoupled contrastive learning).
        targets: `diagonal`; or `labels`, which makes all candidates with the anchor's label its positives, except hard
            negatives (supervised contrastive learning, equation 2 of Khosla et al. 2020). With `own_view`, other anchors
            with the same label are positives too.
        own_view: true uses the other anchors as negatives of an anchor, as in SimCLR. With directions=both, also the other
            positives as negatives of a positive. `all` adds the similarities of a positive with the other positives to the
            denominator of its anchor, and with directions=both the reverse, as in GISTEmbed (`methods/gist.py`).
        positive: module that changes the similarities of the anchors with their positives, (B,) to (B,), such as a margin.
            None changes nothing.
        negatives: extra negatives of the anchors, by name.
        masks: masks of the candidates of the anchors, by name.

    Raises:
        ValueError: an option has an unknown value, the temperature is not positive, or a part needs cosines.

    Example:
        The loss of unsupervised SimCSE::

            InfoNCE(temperature=0.05)

    Source: SimCSE equations 4 and 5, Tables 7 and D.1.
    """

    undecayed = ("log_scale",)  # weight decay would pull the temperature to 1

    def __init__(
        self,
        temperature: float,
        *,
        learn_temperature: bool = False,
        similarity: str = "cosine",
        hard_negative_weight: float = 0.0,
        directions: str = "rows",
        denominator: str = "all",
        targets: str = "diagonal",
        own_view: bool | str = False,
        positive: nn.Module | None = None,
        negatives: Mapping[str, Negatives] | None = None,
        masks: Mapping[str, Mask] | None = None,
    ) -> None:
        super().__init__()
        for name, value, allowed in (
            ("directions", directions, ("rows", "both")),
            ("denominator", denominator, ("all", "negatives")),
            ("similarity", similarity, ("cosine", "dot")),
            ("targets", targets, ("diagonal", "labels")),
            ("own_view", own_view, (False, True, "all")),
        ):
            if value not in allowed:
                raise ValueError(f"{name}={value}: not one of {', '.join(str(each) for each in allowed)}")
        if not (math.isfinite(temperature) and temperature > 0):
            raise ValueError(f"temperature={temperature}: must be a finite number greater than 0")
        for part in (positive, *(negatives or {}).values(), *(masks or {}).values()):
            if similarity != "cosine" and getattr(part, "needs_cosine", False):
                raise ValueError(f"similarity={similarity}: {type(part).__name__} needs similarity=cosine")
        start_1 = torch.tensor([-math.log(temperature)])  # FSDP takes no parameter without a dimension
        self.log_scale = nn.Parameter(start_1) if learn_temperature else None
        self.fixed_temperature = temperature
        self.similarity = similarity
        self.hard_negative_weight = hard_negative_weight
        self.directions, self.denominator, self.own_view = directions, denominator, own_view
        self.targets = targets
        self.positive = positive
        self.negatives = nn.ModuleDict(dict(negatives or {}))
        self.masks = nn.ModuleDict(dict(masks or {}))
        self.encoders = [name for part in self._parts() for name in part.encoders]
        needs = {"positive", *(need for part in self._parts() for need in part.needs)}
        needs |= {"hard_negative"} if hard_negative_weight != 0 else set()
        needs |= {"labels"} if targets == "labels" else set()
        self.needs = self.needs | needs  # type: ignore[misc]  # of this instance

    @property
    def temperature(self) -> Tensor | float:
        """The temperature tau. It is a scalar tensor if it is trained, and then at least 0.01, as in CLIP."""
        if self.log_scale is None:
            return self.fixed_temperature
        return torch.exp(-self.log_scale.clamp(max=math.log(100))).squeeze(0)

    def _parts(self) -> list[Part]:
        return [cast(Part, part) for part in (*self.negatives.values(), *self.masks.values())]

    def setup(self, width: int, vocabulary: Vocabulary) -> None:
        """Call `setup` of every part."""
        for part in self._parts():
            part.setup(width, vocabulary)

    def after_step(self, step: Step) -> None:
        """Call `after_step` of every part."""
        for part in self._parts():
            part.after_step(step)

    def forward(self, step: Step) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """Compute the mean loss of this process's anchors over the candidates of all processes.

        Args:
            step: the current step.

        Returns:
            The loss in nats, a scalar. If the temperature is trained, also the temperature, to be logged.

        Raises:
            ValueError: a part returns a tensor with a wrong shape.
        """
        anchor_BD, positives = step.of("anchor"), step.places("positive")
        places = [*positives, *step.places("hard_negative")]
        candidates = step.gather(torch.stack([step.vectors_BVD[:, place] for place in places], dim=1)).unbind(1)
        logits_BC = self._all_logits(step, anchor_BD, candidates, len(positives))
        logits_BC = self._with_negatives(step, logits_BC, anchor_BD, candidates)
        mine = [step.vectors_BVD[:, place] for place in positives]
        loss = self._loss(step, logits_BC, [anchor_BD, *mine], len(positives), cast(Any, self.masks))
        if self.directions == "both":
            back = []
            for positive_BD in mine:
                logits_BN = self._logits(step, positive_BD, [step.gather(anchor_BD)], 0.0)
                back.append(self._loss(step, logits_BN, [positive_BD, anchor_BD], 1, {}))
            loss = (loss + sum(back[1:], back[0]) / len(back)) / 2
        temperature = self.temperature
        return (loss, {"temperature": temperature.detach()}) if isinstance(temperature, Tensor) else loss

    def _all_logits(self, step: Step, anchor_BD: Tensor, candidates: Sequence[Tensor], positives: int) -> Tensor:
        """Return the logits of the positives, N columns for each view, then of the hard negatives. Missing: -inf."""
        first = [self._logits(step, anchor_BD, [candidate_ND], 0.0) for candidate_ND in candidates[: positives - 1]]
        rest_BC = self._logits(step, anchor_BD, candidates[positives - 1 :], self.hard_negative_weight)
        logits_BC = torch.cat([*first, rest_BC], dim=1) if first else rest_BC
        if "present" not in step.extras:
            return logits_BC
        places = [*step.places("positive"), *step.places("hard_negative")]
        present_C = step.gather(step.extras["present"][:, places].long()).T.flatten()
        return logits_BC.masked_fill(present_C == 0, -torch.inf)

    def _logits(self, step: Step, rows_BD: Tensor, columns: Sequence[Tensor], hard_negative_weight: float) -> Tensor:
        return contrastive_logits(
            rows_BD,
            *columns,
            temperature=self.temperature,
            similarity=self.similarity,
            hard_negative_weight=hard_negative_weight,
            first=step.first,
            positive=self.positive,
        )

    def _loss(
        self, step: Step, logits_BC: Tensor, views: Sequence[Tensor], positives: int, masks: Mapping[str, Mask]
    ) -> Tensor:
        """Compute the loss of rows against their columns and, with `own_view`, against the other rows of their view.

        Args:
            step: the current step.
            logits_BC: the first columns are the views of positives, N columns each.
            views: vectors of the rows, then of each view of their positives, (B, D) each.
            positives: number of views of positives.
            masks: masks of the columns.
        """
        own = logits_BC.shape[1]
        for view_BD in views if self.own_view == "all" else views[:1] if self.own_view else ():
            others_BN = similarities(view_BD, step.gather(view_BD), similarity=self.similarity) / self.temperature
            others_BN = others_BN.diagonal_scatter(others_BN.new_full((len(view_BD),), -torch.inf), step.first)
            logits_BC = torch.cat([logits_BC, others_BN], dim=1)
        one = positives == 1 and self.targets == "diagonal"
        positive_BC = None if one and not masks else self._positive(step, logits_BC, own, positives)
        if masks and positive_BC is not None:
            logits_BC = logits_BC + log_weights(masks, step, logits_BC, own).masked_fill(positive_BC, 0)
        decoupled = self.denominator == "negatives"
        if one or positive_BC is None:
            return contrastive_loss(logits_BC, step.first, decoupled=decoupled)
        return multi_positive_loss(logits_BC, positive_BC, decoupled=decoupled)

    def _alike(self, step: Step) -> Tensor:
        """Return true where an example of all processes is the anchor's own, or has its label, (B, N)."""
        if self.targets == "labels":
            labels_B = step.extras["labels"]
            return labels_B[:, None] == step.gather(labels_B)
        batch = len(step.vectors_BVD)
        alike_BN = torch.zeros(batch, step.processes * batch, dtype=torch.bool, device=step.vectors_BVD.device)
        alike_BN.diagonal(step.first).fill_(True)
        return alike_BN

    def _positive(self, step: Step, logits_BC: Tensor, own: int, positives: int) -> Tensor:
        """Return true at the positives of each row, (B, C): the examples of `_alike`, in every view of positives.

        In the columns from `own`, which are those of `own_view`, a row has no example of its own.
        """
        alike_BN = self._alike(step)
        positive_BC = F.pad(alike_BN.repeat(1, positives), (0, logits_BC.shape[1] - positives * alike_BN.shape[1]))
        others_BN = alike_BN.diagonal_scatter(alike_BN.new_zeros(len(alike_BN)), step.first)
        return torch.cat([positive_BC[:, :own], others_BN.repeat(1, (logits_BC.shape[1] - own) // alike_BN.shape[1])], dim=1)

    def _with_negatives(self, step: Step, logits_BC: Tensor, anchor_BD: Tensor, candidates: Sequence[Tensor]) -> Tensor:
        """Append the logits of the extra negatives."""
        parts = [logits_BC]
        for name, part in self.negatives.items():
            given = part(step, anchor_BD, candidates)
            vectors, counts_K = given if isinstance(given, tuple) else (given, None)
            if vectors.ndim == 2:
                logits_BK = similarities(anchor_BD, vectors, similarity=self.similarity) / self.temperature
                parts.append(logits_BK if counts_K is None else logits_BK.masked_fill(~counts_K, -torch.inf))
            elif vectors.ndim == 3 and len(vectors) == len(anchor_BD):
                logits_BK = own_similarities(anchor_BD, vectors, similarity=self.similarity) / self.temperature
                parts.append(logits_BK if counts_K is None else logits_BK.masked_fill(~counts_K, -torch.inf))
            else:
                raise ValueError(f"negatives.{name}: must return (K, D) or (B, K, D), got {tuple(vectors.shape)}")
        return torch.cat(parts, dim=1) if len(parts) > 1 else logits_BC
