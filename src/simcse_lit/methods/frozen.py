"""A frozen encoder beside the one that is trained: a teacher, or a guide that says which candidates are no negatives."""

from typing import ClassVar

from transformers import PreTrainedTokenizerFast

from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.errors import UserError
from simcse_lit.formats.loading import load_encoder
from simcse_lit.training.beside import Beside


class Frozen(Beside):
    """Any saved encoder that reads the same token ids. It is neither trained nor in checkpoints.

    Args:
        checkpoint: as of `evaluate`: an export, a checkpoint, a folder or Hub id.
        pooler: how a raw model is read, by name; a saved model's own takes precedence.
        revision: branch, tag or commit on the Hub.
        trust_remote_code: run the Python code that the model brings.
    """

    sharded: ClassVar[bool] = True

    def __init__(
        self, checkpoint: str, pooler: str | None = None, revision: str | None = None, trust_remote_code: bool = False
    ) -> None:
        super().__init__()
        self.checkpoint, self.revision = checkpoint, revision
        self.pooler, self.trust_remote_code = pooler, trust_remote_code

    def setup(self, encoder: SentenceEncoder, tokenizer: PreTrainedTokenizerFast) -> None:
        """Load the encoder.

        Raises:
            UserError: it cannot be loaded, or reads other token ids.
        """
        loaded = load_encoder(
            self.checkpoint,
            revision=self.revision,
            pooler=self.pooler,
            projection=None,
            trust_remote_code=self.trust_remote_code,
        )
        if not isinstance(loaded.encoder, SentenceEncoder):
            raise UserError(f"loss.beside: {self.checkpoint}: is of {loaded.kind}. Name an export or a transformers model.")
        if loaded.tokenizer.get_vocab() != tokenizer.get_vocab():
            raise UserError(
                f"loss.beside: {self.checkpoint}: has another vocabulary than the trained model, so token ids\n"
                "mean other words to it. Name an encoder with the same tokenizer."
            )
        self._held = [loaded.encoder.requires_grad_(False).eval()]  # in a list, so that it is no submodule

    @property
    def encoder(self) -> SentenceEncoder:  # type: ignore[override]
        """The encoder, on the device where its vectors are needed first."""
        return self._held[0]
