"""The functions of our export formats, by name."""

from functools import partial

from simcse_lit.formats.convert import Write
from simcse_lit.formats.onnx import write_onnx
from simcse_lit.formats.writers import write_sentence_transformers, write_transformers

WRITERS: dict[str, Write] = {
    "transformers": write_transformers,
    "sentence-transformers": write_sentence_transformers,
    "onnx": partial(write_onnx, int8=False),
}
