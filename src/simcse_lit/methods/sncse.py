"""Soft negatives: a negated sentence should be a little less similar to its original than the positive is.

Shapes: B anchors of this process, D numbers of a vector.
"""

import re
from random import Random

import torch
import torch.nn.functional as F
from torch import Tensor

from simcse_lit.objective.step import Step
from simcse_lit.objective.term import Term
from simcse_lit.views.makers import TextMaker

# "isn't" is two groups, "is" and "n't"; "cannot" is "can" and "not"; a "not" takes the blanks before it along.
DENIAL = re.compile(r"\b(?P<verb>\w+)n['’]t\b|\b(?P<can>can)not\b|\s*\bnot\b", re.IGNORECASE)
IRREGULAR = {"wo": "will", "ca": "can", "sha": "shall"}  # before n't
AUXILIARY = re.compile(
    r"(?<![\w'’-])(am|is|are|was|were|can|could|will|would|shall|should|may|might|must)(?![\w'’-])"
)  # small letters only: May is a month, and a question is not negated by "Is not"


class SoftNegative(Term):
    """Keep the cosine of a soft negative below that of the positive, by at least `alpha` and at most `beta`.

    The loss is mean_i[ relu(d_i + alpha) + relu(-d_i - beta) ] with d_i = cos(z_i, z_i^soft) - cos(z_i, z_i^+): the
    bidirectional margin loss. A soft negative is not a candidate of InfoNCE. Use the role `hard_negative` for sentences that
    should be far away. With several soft negatives, the loss is the mean over them.

    Args:
        alpha: smallest difference of the cosines, at least 0.
        beta: largest difference of the cosines, at least `alpha`.

    Raises:
        ValueError: they are not in this order.

    Source: Wang et al. 2022, SNCSE: Contrastive Learning for Unsupervised Sentence Embedding with Soft Negative Samples,
    bidirectional margin loss, as in the official code.
    """

    needs = frozenset({"positive", "soft_negative"})

    def __init__(self, alpha: float, beta: float) -> None:
        super().__init__()
        if not 0 <= alpha <= beta:
            raise ValueError(f"alpha={alpha} beta={beta}: must be 0 <= alpha <= beta")
        self.alpha, self.beta = alpha, beta

    def forward(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss, a scalar, and the mean difference of the cosines, which is logged."""
        anchor_BD = step.of("anchor")
        positive_B = F.cosine_similarity(anchor_BD, step.of("positive"))
        soft = [F.cosine_similarity(anchor_BD, step.vectors_BVD[:, place]) for place in step.places("soft_negative")]
        difference_B = torch.cat([soft_B - positive_B for soft_B in soft])
        loss = F.relu(difference_B + self.alpha) + F.relu(-difference_B - self.beta)
        return loss.mean(), {"difference": difference_B.detach().mean()}


class Negate(TextMaker):
    """Negate an English sentence by the first rule that applies.

    1. Remove a "not" or "n't": "It is not red." becomes "It is red.", "He won't come." becomes "He will come."
    2. Put "not" after the first form of "be" or modal verb: "It is red." becomes "It is not red."
    3. Put "Not" before the sentence: "He came." becomes "Not He came."

    The official code also parses the sentence and makes "He did not come" of it, and puts "not" after "have" and "do" where
    these are auxiliaries. To use a parser, prepare a column with the negations: `loss=sncse_file`.

    Source: Wang et al. 2022, SNCSE, the official code without its parser.
    """

    def __call__(self, text: str, rng: Random) -> str:
        """Return the negated text. Nothing is drawn."""
        if DENIAL.search(text):
            return DENIAL.sub(_affirmed, text, count=1).strip()
        if AUXILIARY.search(text):
            return AUXILIARY.sub(r"\1 not", text, count=1)
        return f"Not {text}"


def _affirmed(denial: re.Match[str]) -> str:
    """Return what is left of a denial."""
    verb: str = denial["verb"] or denial["can"] or ""
    whole = IRREGULAR.get(verb.lower(), verb)
    return whole.capitalize() if verb[:1].isupper() else whole
