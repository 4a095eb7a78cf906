"""Reads a model's configuration, tokenizer and weights with transformers.

Every call of `from_pretrained` stands here. A model's own Python code runs only where the user allows it, nothing asks on
the terminal, and weights that are missing are reported to the caller.
"""

import logging
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub.errors import StrictDataclassError
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.configuration_utils import PretrainedConfig
from transformers.models.auto.tokenization_auto import get_tokenizer_config
from transformers.utils import logging as transformers_logging

from simcse_lit.encoder.architecture import ENCODER_PART, text_encoder
from simcse_lit.errors import UserError

NAMED = 3  # weights that a message names
TOKENIZERS = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "tokenizer.model",
    "spiece.model",
    "spm.model",
    "sentencepiece.bpe.model",
)


@dataclass(frozen=True)
class Pretrained:
    """A model's folder or Hub id.

    Args:
        source: the folder or Hub id.
        key: the configuration key that names it, for messages.
        revision: branch, tag or commit on the Hub.
        trust_remote_code: run the Python code that the model brings. Only the user says so, never a file that was loaded.
    """

    source: str
    key: str
    revision: str | None = None
    trust_remote_code: bool = False

    def config(self) -> PretrainedConfig:
        """Read the configuration."""
        with self._explained():
            return cast(PretrainedConfig, AutoConfig.from_pretrained(self.source, **self._options))

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """Load the tokenizer.

        Raises:
            UserError: it is not a fast one, or a folder holds none: transformers would make one without words.
        """
        folder = Path(self.source)
        if folder.is_dir() and not any((folder / file).is_file() for file in TOKENIZERS):
            raise UserError(
                f"{self.key}: {folder}: holds no tokenizer (none of {', '.join(TOKENIZERS)}).\n"
                "Save it beside the weights: AutoTokenizer.from_pretrained(...).save_pretrained(FOLDER)."
            )
        with self._explained():
            tokenizer = AutoTokenizer.from_pretrained(self.source, **self._options)
        if not isinstance(tokenizer, PreTrainedTokenizerFast):
            raise UserError(f"{self.key}: {self.source}: has no fast tokenizer (tokenizer.json), which simcse-lit needs.")
        return tokenizer

    def untrained(self, config: PretrainedConfig, *, language_model: bool = False, **options: Any) -> PreTrainedModel:
        """Make a model of this configuration with random weights, in float32; see `trained`."""
        auto = AutoModelForMaskedLM if language_model else AutoModel
        with self._explained():
            model = auto.from_config(config, dtype=torch.float32, trust_remote_code=self.trust_remote_code, **options)
        return model if language_model else text_encoder(model)

    def trained(
        self, config: PretrainedConfig | None = None, *, language_model: bool = False, **options: Any
    ) -> tuple[PreTrainedModel, list[str]]:
        """Load a model in float32; of an encoder-decoder its encoder.

        Args:
            config: a configuration instead of the source's own.
            language_model: load the masked language model, with its head.
            options: for transformers' `from_pretrained`.

        Returns:
            The model, and the names of its weights that the files lack or hold in another shape. These are random.
        """
        auto = AutoModelForMaskedLM if language_model else AutoModel
        with self._explained(), _quiet():
            whole, report = auto.from_pretrained(
                self.source,
                config=config,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are reported by name, where transformers would only raise
                **self._options,
                **options,
            )
        model = whole if language_model else text_encoder(whole)
        absent = [*report["missing_keys"], *(key[0] if isinstance(key, tuple) else key for key in report["mismatched_keys"])]
        return model, sorted(name for name in absent if model is whole or name.startswith(ENCODER_PART))

    @property
    def _options(self) -> dict[str, Any]:
        return {"trust_remote_code": self.trust_remote_code, **({"revision": self.revision} if self.revision else {})}

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Name the key that allows a model's own code, where transformers names an argument; raise a ValueError for whatever
        transformers raises when a value in the model's files has the wrong type.
        """
        try:
            yield
        except ValueError as error:
            if self.trust_remote_code or "trust_remote_code" not in str(error):
                raise
            raise UserError(own_code(self.source, self.key, self.own_classes())) from error
        except (TypeError, AttributeError, LookupError, ArithmeticError, StrictDataclassError) as error:
            raise ValueError(
                f"config.json or the tokenizer's files hold a value that transformers cannot use: {error!r}"
            ) from error

    def own_classes(self) -> list[str]:
        """The classes of the model's own that its configuration and its tokenizer name: [OWNER/NAME--]MODULE.CLASS."""
        where: dict[str, Any] = {"revision": self.revision} if self.revision else {}
        config, _ = PretrainedConfig.get_config_dict(self.source, **where)
        found: list[str] = []
        for given in (config.get("auto_map"), get_tokenizer_config(self.source, **where).get("auto_map")):
            for value in given.values() if isinstance(given, dict) else [given]:
                found += [name for name in (value if isinstance(value, list) else [value]) if isinstance(name, str)]
        return found


def own_code(source: str, key: str, classes: Iterable[str]) -> str:
    """The refusal of a model that brings Python code.

    Args:
        source: its folder or Hub id.
        key: the configuration key that names it.
        classes: what would be loaded, as MODULE.CLASS or OWNER/NAME--MODULE.CLASS.
    """
    files = dict.fromkeys(_file(name) for name in classes)
    allowed = "model.trust_remote_code" if "." in key else "trust_remote_code"  # in training, and for the other verbs
    return (
        f"{key}: {source}: brings Python code of its own, which would run with your rights: {', '.join(files)}.\n"
        f"Nothing was run. If you have read that code and trust it: {allowed}=true"
    )


def _file(name: str) -> str:
    """The file that holds MODULE.CLASS, and the repository if it is another one."""
    repository, _, path = name.rpartition("--")
    file = f"{path.rpartition('.')[0] or path}.py"
    return f"{file} of {repository}" if repository else file


def some(names: Sequence[str]) -> str:
    """How many weights are absent, and the names of the first."""
    count = "1 weight is" if len(names) == 1 else f"{len(names)} weights are"
    return f"{count} missing or of another shape: {', '.join(names[:NAMED])}{', ...' if len(names) > NAMED else ''}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' report of absent weights, of this thread, and its progress bar off the terminal."""
    here = threading.get_ident()
    logger = logging.getLogger("transformers.modeling_utils")

    def keep(record: logging.LogRecord) -> bool:
        return record.thread != here or record.levelno > logging.WARNING

    bar, no_hub_bars = transformers_logging.is_progress_bar_enabled(), are_progress_bars_disabled()
    logger.addFilter(keep)
    transformers_logging.disable_progress_bar()  # and that of the Hub's client
    try:
        yield
    finally:
        logger.removeFilter(keep)
        if bar:
            transformers_logging.enable_progress_bar()
        (disable_progress_bars if no_hub_bars else enable_progress_bars)()
