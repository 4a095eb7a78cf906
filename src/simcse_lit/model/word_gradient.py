"""Sums the gradient of the word embeddings over a step's chunks as rows of the words that occur.

Each chunk's backward pass would make a gradient as large as the vocabulary, zero but for some hundred rows, and add it to
those of the chunks before. On a CPU, in one process, autograd is asked for the rows alone (a sparse tensor), and their sum
is made dense once, so that clipping, loggers and optimisers see what they always see. Called by `module.py`.
"""

from typing import cast

from torch import nn

from simcse_lit.model.encoder import SentenceEncoder


class WordGradient:
    """The word embeddings of the encoders that are trained.

    Args:
        encoders: as above. Compiled ones are left as they are, since compiled code has no sparse tensors.
    """

    def __init__(self, *encoders: SentenceEncoder) -> None:
        self._encoders = encoders

    def as_rows(self, wanted: bool) -> None:
        """Say whether backward passes to come give rows."""
        for encoder in self._encoders:
            _embeddings(encoder).sparse = wanted and not encoder.compiled

    def make_dense(self) -> None:
        """After a backward pass: a gradient of rows becomes one of the vocabulary's size."""
        for encoder in self._encoders:
            weight = _embeddings(encoder).weight
            if weight.grad is not None and weight.grad.is_sparse:
                weight.grad = weight.grad.to_dense()


def _embeddings(encoder: SentenceEncoder) -> nn.Embedding:
    return cast(nn.Embedding, encoder.backbone.get_input_embeddings())
