"""Writes any loaded encoder as a folder for transformers, sentence-transformers or onnxruntime, with a model card."""

from pathlib import Path

from simcse_lit.config.resolvers import local_path
from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.errors import UserError
from simcse_lit.formats.export import in_template, recorded_section, usage, write
from simcse_lit.formats.loading import LoadedEncoder
from simcse_lit.formats.model_card import Provenance, card_for_library, model_card
from simcse_lit.formats.onnx import ONNX_USAGE, write_onnx
from simcse_lit.formats.sentence_transformers import SENTENCE_TRANSFORMERS_USAGE, add_sentence_transformers
from simcse_lit.formats.whole_folder import refuse_to_replace, whole_folder


def export_as(loaded: LoadedEncoder, output: Path, *, format: str, int8: bool) -> None:
    """Write an encoder to a new folder. An export's own card is kept, with the library and code of the new format.

    Args:
        loaded: any encoder.
        output: the folder; it appears once it is complete.
        format: transformers, sentence-transformers or onnx.
        int8: for onnx, see `write_onnx`.

    Raises:
        UserError: the folder exists already, the format cannot hold this encoder, or its card cannot be read.
    """
    refuse_to_replace(output)
    encoder = loaded.encoder
    if format != "onnx" and not isinstance(encoder, SentenceEncoder):
        raise UserError(f"format={format}: {loaded.source} is of {loaded.kind} and stays in it; only format=onnx takes it.")
    source = local_path(loaded.source, "checkpoint")
    recorded = (recorded_section(source) if (source / "config.json").is_file() else None) or {}
    max_length = int(recorded.get("max_length", loaded.max_length))
    template = loaded.prompts.of("text")
    with whole_folder(output, replace=False) as folder:
        library = format
        if isinstance(encoder, SentenceEncoder) and format != "onnx":
            write(encoder, loaded.tokenizer, folder, max_length, loaded.prompts)
            code = usage(encoder, loaded.max_length, template)
            if format == "sentence-transformers":
                add_sentence_transformers(encoder, folder, loaded.max_length, loaded.prompts)
                code = SENTENCE_TRANSFORMERS_USAGE
        else:
            write_onnx(loaded, folder, int8=int8)
            library, code = "onnxruntime", in_template(ONNX_USAGE.replace("MAX_LENGTH", str(loaded.max_length)), template)
        if recorded and (source / "README.md").is_file():
            card = card_for_library(source / "README.md", library, code)
        else:
            made = Provenance(loaded.source, None)
            card = model_card(loaded.pooler, loaded.projection, max_length, made, library, code)
        card.save(folder / "README.md")
