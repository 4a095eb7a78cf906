"""Reads the configuration, tokenizer and weights of a model with transformers.

All calls of `from_pretrained` are here. Python code of a model runs only if the user allows it. The terminal is never asked,
and missing weights are reported to the caller.
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
    """The folder or Hub id of a model.

    Args:
        source: the folder or Hub id.
        key: the configuration key that names it, for messages.
        revision: branch, tag or commit on the Hub.
        trust_remote_code: run the Python code that the model contains. Only the user may set it, never a loaded file.
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
            UserError: the tokenizer is not a fast one, or the folder has none. transformers would make one without words.
        """
        folder = Path(self.source)
        if folder.is_dir() and not any((folder / file).is_file() for file in TOKENIZERS):
            raise UserError(
                f"{self.key}: {folder}: has no tokenizer (none of {', '.join(TOKENIZERS)}).\n"
                "Save it next to the weights: AutoTokenizer.from_pretrained(...).save_pretrained(FOLDER)."
            )
        with self._explained():
            tokenizer = AutoTokenizer.from_pretrained(self.source, **self._options)
        if not isinstance(tokenizer, PreTrainedTokenizerFast):
            raise UserError(f"{self.key}: {self.source}: has no fast tokenizer (tokenizer.json), which simcse-lit needs.")
        return tokenizer

    def untrained(self, config: PretrainedConfig, *, language_model: bool = False, **options: Any) -> PreTrainedModel:
        """Build a model of this configuration with random weights, in float32. See `trained` for the arguments."""
        auto = AutoModelForMaskedLM if language_model else AutoModel
        with self._explained():
            model = auto.from_config(config, dtype=torch.float32, trust_remote_code=self.trust_remote_code, **options)
        return model if language_model else text_encoder(model)

    def trained(
        self, config: PretrainedConfig | None = None, *, language_model: bool = False, **options: Any
    ) -> tuple[PreTrainedModel, list[str]]:
        """Load a model in float32. Of an encoder-decoder, load the encoder.

        Args:
            config: a configuration to use instead of the one in the source.
            language_model: load the masked language model with its head.
            options: options of `from_pretrained` of transformers.

        Returns:
            The model, and the names of the weights that are missing in the files or have another shape. These are random.
        """
        auto = AutoModelForMaskedLM if language_model else AutoModel
        with self._explained(), _quiet():
            whole, report = auto.from_pretrained(
                self.source,
                config=config,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # we report them by name; transformers would only raise
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
        """Replace two errors of transformers.

        If a model has its own code, name the key that allows it. If a value in its files has a wrong type, raise a
        ValueError.
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
        """Return the classes of the model's own code, from configuration and tokenizer: [OWNER/NAME--]MODULE.CLASS."""
        where: dict[str, Any] = {"revision": self.revision} if self.revision else {}
        config, _ = PretrainedConfig.get_config_dict(self.source, **where)
        found: list[str] = []
        for given in (config.get("auto_map"), get_tokenizer_config(self.source, **where).get("auto_map")):
            for value in given.values() if isinstance(given, dict) else [given]:
                found += [name for name in (value if isinstance(value, list) else [value]) if isinstance(name, str)]
        return found


def own_code(source: str, key: str, classes: Iterable[str]) -> str:
    """Write the message that refuses a model with Python code.

    Args:
        source: folder or Hub id of the model.
        key: the configuration key that names the model.
        classes: classes that would be loaded, as MODULE.CLASS or OWNER/NAME--MODULE.CLASS.
    """
    files = dict.fromkeys(_file(name) for name in classes)
    allowed = "model.trust_remote_code" if "." in key else "trust_remote_code"  # in training, and in the other verbs
    return (
        f"{key}: {source}: contains Python code, which would run with your rights: {', '.join(files)}.\n"
        f"Nothing was run. If you have read this code and trust it, set {allowed}=true"
    )


def _file(name: str) -> str:
    """Return the file of MODULE.CLASS, with its repository if it is another one."""
    repository, _, path = name.rpartition("--")
    file = f"{path.rpartition('.')[0] or path}.py"
    return f"{file} of {repository}" if repository else file


def some(names: Sequence[str]) -> str:
    """Say how many weights are missing, and name the first."""
    count = "1 weight is" if len(names) == 1 else f"{len(names)} weights are"
    return f"{count} missing or of another shape: {', '.join(names[:NAMED])}{', ...' if len(names) > NAMED else ''}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the progress bar of transformers, and this thread's report of missing weights, from the terminal."""
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
