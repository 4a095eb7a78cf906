"""Frozen encoders beside the trained one: a teacher, a guide that says which candidates are not negatives, a generator.

`training/beside.py` has the kinds that follow the trained encoder.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

from torch import Tensor
from transformers import PreTrainedTokenizerFast

from simcse_lit.encoder.backbone import as_stored, load_backbone
from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.errors import UserError
from simcse_lit.formats.loading import load_encoder
from simcse_lit.formats.sentence_transformers import SentenceTransformerEncoder, as_sentence_encoder
from simcse_lit.training.beside import Beside


class Unregistered(Beside):
    """Base of frozen encoders. They are no submodules, so nothing trains them and checkpoints do not contain them."""

    sharded: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self._held = list[SentenceEncoder]()  # a list hides it

    def hold(self, encoder: SentenceEncoder, *, training: bool = False) -> None:
        """Use this encoder, in evaluation mode or in training mode."""
        self._held = [encoder.requires_grad_(False).train(training)]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Unregistered":
        """Follow the module to another device or precision."""
        for encoder in self._held:
            encoder._apply(fn, recurse)
        super()._apply(fn, recurse)
        return self

    @property
    def encoder(self) -> SentenceEncoder:  # type: ignore[override]
        """The frozen encoder."""
        return self._held[0]


class Frozen(Unregistered):
    """Use a saved encoder. It is not trained, and checkpoints do not contain it.

    If its tokenizer has another vocabulary than that of the trained encoder, the views of an example are tokenised for it
    too, with the templates and makers of the run. Makers that change tokens on the device do not change these.

    It gives the vectors that `evaluate` would score: a head that was for training only is left out.

    Args:
        checkpoint: what `evaluate` takes as `checkpoint`: an export, a checkpoint, a folder or a Hub id. A model of
            sentence-transformers may have a transformer, a pooling (mean, first or last token) and Normalize.
        pooler: name of the pooler of a raw model. A saved model's own pooler takes precedence.
        revision: branch, tag or commit on the Hub.
        trust_remote_code: run the Python code that the model contains.
    """

    def __init__(
        self, checkpoint: str, pooler: str | None = None, revision: str | None = None, trust_remote_code: bool = False
    ) -> None:
        super().__init__()
        self.checkpoint, self.revision = checkpoint, revision
        self.pooler, self.trust_remote_code = pooler, trust_remote_code

    def setup(self, encoder: SentenceEncoder, tokenizer: PreTrainedTokenizerFast) -> None:
        """Load the encoder.

        Raises:
            UserError: the encoder cannot be loaded.
        """
        loaded = load_encoder(
            self.checkpoint,
            revision=self.revision,
            pooler=self.pooler,
            projection=None,
            trust_remote_code=self.trust_remote_code,
        )
        if isinstance(loaded.encoder, SentenceTransformerEncoder):
            plain = as_sentence_encoder(loaded.encoder, loaded.pooler)
            loaded = loaded if plain is None else replace(loaded, encoder=plain)
        if not isinstance(loaded.encoder, SentenceEncoder):
            raise UserError(
                f"loss.beside: {self.checkpoint}: is a {loaded.kind} model with other parts than a transformer, a\n"
                "pooling and Normalize. Name another, an export or a transformers model."
            )
        if loaded.tokenizer.get_vocab() != tokenizer.get_vocab():
            self.tokenizer = loaded.tokenizer
        if not loaded.encoder.projected:
            loaded.encoder.projection = None
        self.hold(loaded.encoder)


class LanguageModel(Unregistered):
    """Use a masked language model, for its scores of the vocabulary (`passes.token_scores`): the generator of DiffCSE.

    Args:
        checkpoint: Hub id or folder of the language model.
        dropout: keep its dropout, as the code of DiffCSE does.
        revision: branch, tag or commit on the Hub.
        trust_remote_code: run the Python code that the model contains.
    """

    def __init__(
        self, checkpoint: str, dropout: bool = True, revision: str | None = None, trust_remote_code: bool = False
    ) -> None:
        super().__init__()
        self.checkpoint, self.dropout = checkpoint, dropout
        self.revision, self.trust_remote_code = revision, trust_remote_code

    def setup(self, encoder: SentenceEncoder, tokenizer: PreTrainedTokenizerFast) -> None:
        """Load the language model.

        Raises:
            UserError: it cannot be loaded, has no language-modelling head, or its tokenizer has another vocabulary.
        """
        model = as_stored(self.checkpoint, revision=self.revision, trust_remote_code=self.trust_remote_code)
        backbone, own = load_backbone(model, mlm=True, own_head=True, key="loss.beside")
        if own.get_vocab() != tokenizer.get_vocab():
            raise UserError(
                f"loss.beside: {self.checkpoint}: has another vocabulary than the trained model, and it predicts\n"
                "token ids. Name a masked language model with the same tokenizer."
            )
        self.hold(SentenceEncoder(backbone, "cls", "none"), training=self.dropout)
