"""A frozen encoder beside the trained one: a teacher, or a guide that says which candidates are not negatives.

`training/beside.py` has the kinds that follow the trained encoder.
"""

from collections.abc import Callable
from typing import ClassVar

from torch import Tensor
from transformers import PreTrainedTokenizerFast

from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.errors import UserError
from simcse_lit.formats.loading import load_encoder
from simcse_lit.training.beside import Beside


class Frozen(Beside):
    """Use a saved encoder that reads the same token ids. It is not trained, and checkpoints do not contain it.

    It gives the vectors that `evaluate` would score: a head that was for training only is left out.

    Args:
        checkpoint: what `evaluate` takes as `checkpoint`: an export, a checkpoint, a folder or a Hub id.
        pooler: name of the pooler of a raw model. A saved model's own pooler takes precedence.
        revision: branch, tag or commit on the Hub.
        trust_remote_code: run the Python code that the model contains.
    """

    sharded: ClassVar[bool] = True

    def __init__(
        self, checkpoint: str, pooler: str | None = None, revision: str | None = None, trust_remote_code: bool = False
    ) -> None:
        super().__init__()
        self.checkpoint, self.revision = checkpoint, revision
        self.pooler, self.trust_remote_code = pooler, trust_remote_code
        self._held = list[SentenceEncoder]()

    def setup(self, encoder: SentenceEncoder, tokenizer: PreTrainedTokenizerFast) -> None:
        """Load the encoder.

        Raises:
            UserError: the encoder cannot be loaded, or its tokenizer has another vocabulary.
        """
        loaded = load_encoder(
            self.checkpoint,
            revision=self.revision,
            pooler=self.pooler,
            projection=None,
            trust_remote_code=self.trust_remote_code,
        )
        if not isinstance(loaded.encoder, SentenceEncoder):
            raise UserError(
                f"loss.beside: {self.checkpoint}: is a {loaded.kind} model. Name an export or a transformers model."
            )
        if loaded.tokenizer.get_vocab() != tokenizer.get_vocab():
            raise UserError(
                f"loss.beside: {self.checkpoint}: has another vocabulary than the trained model, so it reads\n"
                "the token ids as other words. Name an encoder with the same tokenizer."
            )
        if not loaded.encoder.projected:
            loaded.encoder.projection = None
        self._held = [loaded.encoder.requires_grad_(False).eval()]  # a list hides it, so that it is not a submodule

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Frozen":
        """Follow the module to another device or precision."""
        for encoder in self._held:
            encoder._apply(fn, recurse)
        return super()._apply(fn, recurse)

    @property
    def encoder(self) -> SentenceEncoder:  # type: ignore[override]
        """The frozen encoder."""
        return self._held[0]
