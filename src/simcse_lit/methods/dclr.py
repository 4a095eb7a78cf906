"""DCLR: noise that moves towards the anchors as negatives, and a mask of false negatives from a frozen encoder.

Shapes: B anchors of this process, N candidates of all processes, K noise vectors or views, C columns, D numbers of a vector.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from simcse_lit.objective.contrastive import contrastive_loss, similarities
from simcse_lit.objective.parts import Mask, Negatives
from simcse_lit.objective.step import Step


class Ascent(Negatives):
    """Contrast every anchor with noise that gradient ascent on the loss has made harder.

    The noise starts as g_k ~ N(0, I) and takes `steps` steps g_k + rate * v / norm(v), where v is the gradient by g_k of the
    mean cross-entropy of the anchors over the candidates and the noise. Neither the anchors nor the candidates get a
    gradient from these steps. Every process draws its own noise and moves it for its own anchors.

    Use `gs_infonce.Gaussian` for noise that stays where it is drawn.

    Args:
        times: number of noise vectors as a multiple of the batch of all processes.
        steps: steps of the ascent.
        rate: length of a step.
        temperature: that of the loss. A trained one is not followed.

    Raises:
        ValueError: `times` or `temperature` is not positive.

    Source: Zhou et al. 2022, Debiased Contrastive Learning of Unsupervised Sentence Representations, and its code.
    """

    needs_cosine = True

    def __init__(self, times: float, steps: int, rate: float, temperature: float) -> None:
        super().__init__()
        for name, value in (("times", times), ("temperature", temperature)):
            if value <= 0:
                raise ValueError(f"{name}={value}: must be greater than 0")
        self.times, self.steps, self.rate, self.temperature = times, steps, rate, temperature

    def forward(self, step: Step, anchor_BD: Tensor, candidates: Sequence[Tensor]) -> Tensor:
        """Return the noise after the ascent, (K, D), without gradient."""
        fixed_BD, count = anchor_BD.detach(), max(1, round(self.times * len(candidates[0])))
        columns = [candidate_ND.detach() for candidate_ND in candidates]
        noise_KD = torch.randn(count, fixed_BD.shape[1], dtype=fixed_BD.dtype, device=fixed_BD.device)
        for _ in range(self.steps):
            with torch.enable_grad():
                noise_KD.requires_grad_()
                logits_BC = similarities(fixed_BD, *columns, noise_KD, similarity="cosine") / self.temperature
                (gradient_KD,) = torch.autograd.grad(contrastive_loss(logits_BC, step.first), noise_KD)
            noise_KD = noise_KD.detach() + self.rate * F.normalize(gradient_KD, dim=1)
        return noise_KD


class FalseNegatives(Mask):
    """Give weight 0 to candidates that a frozen encoder finds similar to the anchor, and weight 1 to all others.

    Candidate j counts in the denominator of anchor i unless cos(f(x_i), f(x_j)) > threshold, where f is the frozen encoder
    without dropout. Other anchors (`own_view`) are treated alike. The positive always counts.

    This is the paper's version: the weight multiplies e^(s / tau). The authors' code multiplies the logit instead, so that a
    candidate of weight 0 still adds e^0; its encoders get no attention mask in training, and its frozen encoder has dropout.

    Use `gist.Guided` for a threshold that depends on the anchor's own positive.

    Args:
        threshold: the cosine phi above which a candidate is left out.
        encoder: name of the frozen encoder in `loss.beside`.

    Source: Zhou et al. 2022, Debiased Contrastive Learning of Unsupervised Sentence Representations.
    """

    def __init__(self, threshold: float, encoder: str = "guide") -> None:
        super().__init__()
        self.threshold, self.encoder, self.encoders = threshold, encoder, (encoder,)

    def forward(self, step: Step) -> tuple[Tensor, Tensor]:
        """Return true where a candidate, (B, K x N), and where another anchor is left out, (B, N)."""
        places = [*step.places("anchor"), *step.places("positive"), *step.places("hard_negative")]
        guide_BKD = step.encoded_by(self.encoder, places)
        columns = step.gather(guide_BKD).unbind(1)
        similar_BC = similarities(guide_BKD[:, 0], *columns, similarity="cosine") > self.threshold
        count = len(columns[0])
        return similar_BC[:, count:], similar_BC[:, :count]
