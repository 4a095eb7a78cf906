"""The functions of the formats `transformers` and `sentence-transformers` in `conf/format/`."""

from pathlib import Path

from simcse_lit.config.resolvers import local_path
from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.errors import UserError
from simcse_lit.formats.export import recorded_section, usage, write
from simcse_lit.formats.loading import LoadedEncoder
from simcse_lit.formats.sentence_transformers import SENTENCE_TRANSFORMERS_USAGE, add_sentence_transformers
from simcse_lit.formats.usage import Usage


def write_transformers(loaded: LoadedEncoder, folder: Path) -> Usage:
    """Write weights, configuration and tokenizer to an existing folder, for AutoModel.

    Raises:
        UserError: the encoder is not a transformers model.
    """
    encoder = _transformers_model(loaded, "transformers")
    write(encoder, loaded.tokenizer, folder, trained_length(loaded), loaded.prompts)
    return Usage("transformers", usage(encoder, loaded.max_length, loaded.prompts.of("text")))


def write_sentence_transformers(loaded: LoadedEncoder, folder: Path) -> Usage:
    """Write the same folder with modules.json, for SentenceTransformer.

    Raises:
        UserError: the encoder is not a transformers model; or see `add_sentence_transformers`.
    """
    encoder = _transformers_model(loaded, "sentence-transformers")
    write(encoder, loaded.tokenizer, folder, trained_length(loaded), loaded.prompts)
    add_sentence_transformers(encoder, folder, loaded.max_length, loaded.prompts)
    return Usage("sentence-transformers", SENTENCE_TRANSFORMERS_USAGE)


def trained_length(loaded: LoadedEncoder) -> int:
    """Return the tokens after which training cut sentences, if the encoder records it; else its longest input."""
    source = local_path(loaded.source, "checkpoint")
    recorded = (recorded_section(source) if (source / "config.json").is_file() else None) or {}
    return int(recorded.get("max_length", loaded.max_length))


def _transformers_model(loaded: LoadedEncoder, name: str) -> SentenceEncoder:
    if not isinstance(loaded.encoder, SentenceEncoder):
        raise UserError(
            f"format={name}: {loaded.source} is a model of kind {loaded.kind}, which only format=onnx can convert."
        )
    return loaded.encoder
