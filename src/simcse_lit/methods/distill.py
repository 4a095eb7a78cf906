"""Distillation: a term that brings the vectors of the trained encoder close to those of a frozen teacher.

Shapes: B examples of this process, V views, D numbers of the trained encoder's vector, T of the teacher's.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from simcse_lit.errors import UserError
from simcse_lit.objective.step import Step, Vocabulary
from simcse_lit.objective.term import Term


class Distill(Term):
    """Make the vector of each sentence, after the head, equal to that of a teacher.

    The loss is the mean over all views of all sentences, those of hard negatives too, of 1 - cos(h, t) (`cosine`), or of the
    mean squared difference of their numbers (`mse`). The cosine leaves the length of a vector free, `mse` does not.

    What is compared is the vector after the head, so the head must be kept at evaluation, or there is none.

    A teacher with vectors of another width needs `map`: a linear layer from the trained encoder's width to the teacher's,
    trained with the encoder and not exported. The exported vectors keep their own width, and are close to the teacher's up
    to this layer. To compare similarities of sentences instead of vectors, use RankCSE's terms, which need no equal widths.

    Args:
        measure: `cosine` or `mse`.
        map: put a trained linear layer between the vectors and the teacher's.
        encoder: name of the teacher in `loss.beside`.

    Raises:
        ValueError: the measure is unknown.

    Source: Reimers and Gurevych 2020, Making Monolingual Sentence Embeddings Multilingual using Knowledge Distillation,
    equation 1 (`mse`). The linear layer: Romero et al. 2015, FitNets.
    """

    needs = frozenset({"kept_head"})

    def __init__(self, measure: str = "cosine", *, map: bool = False, encoder: str = "teacher") -> None:
        super().__init__()
        if measure not in ("cosine", "mse"):
            raise ValueError(f"measure={measure}: not one of cosine, mse")
        self.measure, self.has_map = measure, map
        self.encoder, self.encoders = encoder, (encoder,)
        self.map: nn.Module = nn.Identity()

    def setup(self, width: int, vocabulary: Vocabulary) -> None:
        """Create the linear layer, if there is one.

        Raises:
            UserError: there is none, but the teacher has vectors of another width.
        """
        theirs = self.widths.get(self.encoder, width)
        if self.has_map:
            self.map = nn.Linear(width, theirs)
        elif theirs != width:
            raise UserError(
                f"loss.beside.{self.encoder}: its vectors have {theirs} numbers, those of the trained model {width}.\n"
                "Add a linear layer between them with map=true of the term, or name a teacher of the same width."
            )

    def forward(self, step: Step) -> Tensor:
        """Compute the mean over the sentences that are not missing (`data.optional`), a scalar."""
        teacher_BVT = step.encoded_by(self.encoder, range(len(step.roles)))
        student_BVT: Tensor = self.map(step.vectors_BVD)
        if self.measure == "mse":
            apart_BV = (student_BVT - teacher_BVT).square().mean(-1)
        else:
            apart_BV = 1 - F.cosine_similarity(student_BVT, teacher_BVT, dim=-1)
        present_BV = step.extras.get("present", torch.ones_like(apart_BV)).to(apart_BV.dtype)  # false: the text is missing
        return (apart_BV * present_BV).sum() / step.mean(present_BV.sum())
