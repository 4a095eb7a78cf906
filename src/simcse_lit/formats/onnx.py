"""Encoders as ONNX: one graph from token ids to vectors, written by the exporter of torch and run by onnxruntime.

Shapes: N sentences, L length, H hidden.
"""

import hashlib
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from simcse_lit import __version__
from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.errors import UserError
from simcse_lit.formats.export import in_template
from simcse_lit.formats.usage import Usage

if TYPE_CHECKING:
    from simcse_lit.formats.loading import LoadedEncoder

MODEL = "model.onnx"
NO_WEIGHTS = (".json", ".txt", ".md", ".py")  # the tokenizer and the card
INSTALL = "Install it with: pip install 'simcse-lit[onnx]'"

ONNX_USAGE = """import onnxruntime
from transformers import AutoTokenizer

folder = "."  # this folder
tokenizer, session = AutoTokenizer.from_pretrained(folder), onnxruntime.InferenceSession(f"{folder}/model.onnx")
sentences = ["A man is playing a guitar.", "Somebody makes music."]
batch = tokenizer(sentences, padding=True, truncation=True, max_length=MAX_LENGTH, return_tensors="np")
inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
(vectors,) = session.run(["sentence_embedding"], inputs)"""


class OnnxEncoder(nn.Module):
    """The graph of an ONNX folder as an encoder. It runs on the CPU.

    Args:
        path: the graph.

    Raises:
        UserError: onnxruntime is not installed, or cannot read the file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        try:
            import onnxruntime
        except ImportError as error:
            raise UserError(
                f"checkpoint: {path.parent}: is an ONNX folder, and onnxruntime is not installed.\n{INSTALL}"
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            digest = _digest(path)
        except Exception as error:  # onnxruntime's exceptions have no common base class
            raise UserError(
                f"checkpoint: {path}: cannot be loaded: {str(error).splitlines()[0]}\nExport it again."
            ) from error
        size = self._session.get_outputs()[0].shape[-1]
        self.width = size if isinstance(size, int) else None  # numbers of a vector before `truncate_dim`, if it is fixed
        self.truncate_dim: int | None = None
        # torch holds none of the weights, so state_dict() tells two encoders apart by this digest.
        self.register_buffer("digest", torch.frombuffer(bytearray(digest), dtype=torch.uint8))

    @property
    def device(self) -> torch.device:
        """The device that the graph runs on."""
        return torch.device("cpu")

    def embed(self, input_ids_NL: Tensor, attention_mask_NL: Tensor) -> Tensor:
        """Encode (N, L) ids and mask as vectors, (N, H)."""
        (vectors_NH,) = self._session.run(
            ["sentence_embedding"], {"input_ids": input_ids_NL.numpy(), "attention_mask": attention_mask_NL.numpy()}
        )
        return torch.from_numpy(vectors_NH)[:, : self.truncate_dim]


def _digest(graph: Path) -> bytes:
    """Compute the digest of a graph and of every other file of its folder that may hold its weights."""
    digest = hashlib.sha256()
    others = (path for path in graph.parent.rglob("*") if path.is_file() and path != graph and path.suffix not in NO_WEIGHTS)
    for path in (graph, *sorted(others)):
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.digest()


class _Graph(nn.Module):
    """An encoder whose forward pass returns the vectors that evaluation uses."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return cast(Tensor, self.encoder.embed(input_ids, attention_mask))


def write_onnx(loaded: "LoadedEncoder", folder: Path, *, int8: bool) -> Usage:
    """Write the graph, its configuration and its tokenizer to an existing folder.

    Args:
        loaded: the encoder. It is moved to the CPU.
        folder: where to write.
        int8: store the weights of linear layers in one byte and quantise activations at run time (dynamic quantisation
            of onnxruntime).

    Raises:
        UserError: onnx is not installed, or the encoder cannot be exported for any batch and length.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401  # torch's exporter needs it
    except ImportError as error:
        raise UserError(f"format=onnx: needs {error.name}, which is not installed.\n{INSTALL}") from error
    if isinstance(loaded.encoder, SentenceEncoder) and loaded.encoder.denoised_in_use:
        raise UserError(
            f"format=onnx: {loaded.source}: subtracts the vector of the bare template in use, which a graph does not do.\n"
            "Use format=transformers, or train with data.template_denoising=training."
        )
    path = folder / MODEL
    graph = _Graph(loaded.encoder.to("cpu")).eval()
    ids_NL = torch.full((2, 8), int(loaded.tokenizer.pad_token_id or 0))
    sizes = {0: torch.export.Dim("sentences"), 1: torch.export.Dim("length", max=loaded.max_length)}
    try:
        # torch prints the graph that it could not export
        with warnings.catch_warnings(), _quiet("onnxscript", logging.WARNING), torch.no_grad(), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            torch.onnx.export(
                graph,
                (ids_NL, torch.ones_like(ids_NL)),
                str(path),
                input_names=["input_ids", "attention_mask"],
                output_names=["sentence_embedding"],
                dynamic_shapes={"input_ids": sizes, "attention_mask": sizes},
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # the exporter wraps errors in its own classes
        reason = re.sub(r"\x1b\[\d+m", "", str(error.__cause__ or error).splitlines()[0])  # it contains colour codes
        raise UserError(
            f"format=onnx: {loaded.source}: torch cannot export this encoder: {reason}\nUse format=transformers."
        ) from error
    model = onnx.load(path)
    for given in model.graph.input:
        if not all(size.dim_param for size in given.type.tensor_type.shape.dim):
            raise UserError(
                f"format=onnx: {loaded.source}: its code fixes the number of sentences or tokens.\nUse format=transformers."
            )
    for node in (*model.graph.node, *(node for function in model.functions for node in function.node)):
        node.ClearField("metadata_props")  # stack traces of the exporter, with paths of this machine
    onnx.save(model, path)
    if int8:
        _quantise(path)
    encoder: Any = loaded.encoder
    backbone = encoder.backbone if isinstance(encoder, SentenceEncoder) else encoder.model.transformers_model
    before = {name: value for name, value in getattr(backbone.config, "simcse", {}).items() if name != "truncate_dim"}
    backbone.config.simcse = {
        **before,
        **({} if encoder.truncate_dim is None else {"truncate_dim": encoder.truncate_dim}),
        "pooler": loaded.pooler,
        "projection": loaded.projection,
        **loaded.prompts.record(),
        "longest_input": loaded.max_length,
        "version": __version__,
        "onnx": "int8" if int8 else "float32",
    }
    backbone.config.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    code = ONNX_USAGE.replace("MAX_LENGTH", str(loaded.max_length))
    return Usage("onnxruntime", in_template(code, loaded.prompts.of("text")))


def _quantise(path: Path) -> None:
    with _quiet(None, logging.ERROR):  # importing it configures the root logger
        from onnxruntime.quantization import QuantType, quantize_dynamic

    whole = path.with_suffix(".float32.onnx")
    path.rename(whole)
    with _quiet(None, logging.ERROR):  # onnxruntime logs warnings about its defaults
        quantize_dynamic(whole, path, weight_type=QuantType.QInt8, per_channel=True)
    whole.unlink()


@contextmanager
def _quiet(name: str | None, level: int) -> Iterator[None]:
    """Set the level of a logger (None: the root) within the block, and restore its level and handlers afterwards."""
    logger = logging.getLogger(name)
    before, handlers = logger.level, list(logger.handlers)
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)
        logger.handlers[:] = handlers  # logging.warning() adds a handler to a root logger that has none
