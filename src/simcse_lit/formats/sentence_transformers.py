"""Writes any encoder that can be loaded as a folder for transformers, sentence-transformers or ONNX. Called by `export`.

Shapes: N sentences, L length, H hidden.
"""

import json
import logging
import shutil
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch
from torch import Tensor, nn

from simcse_lit import __version__
from simcse_lit.config.resolvers import is_local, local_path
from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.errors import UserError
from simcse_lit.formats.export import recorded_section, replacing, write
from simcse_lit.formats.loading import LoadedEncoder
from simcse_lit.formats.model_card import Provenance, card_with, model_card, usage
from simcse_lit.formats.onnx import INSTALL, MODEL

SENTENCE_TRANSFORMERS_USAGE = """from sentence_transformers import SentenceTransformer

folder = "."  # this folder
sentences = ["A man is playing a guitar.", "Somebody makes music."]
vectors = SentenceTransformer(folder).encode(sentences)"""

ONNX_USAGE = """import onnxruntime
from transformers import AutoTokenizer

folder = "."  # this folder
tokenizer, session = AutoTokenizer.from_pretrained(folder), onnxruntime.InferenceSession(f"{folder}/model.onnx")
sentences = ["A man is playing a guitar.", "Somebody makes music."]
batch = tokenizer(sentences, padding=True, truncation=True, max_length=MAX_LENGTH, return_tensors="np")
inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
(vectors,) = session.run(["sentence_embedding"], inputs)"""


def export_as(loaded: LoadedEncoder, output: Path, *, format: str, int8: bool) -> None:
    """Write an encoder to a new folder, with a card.

    Args:
        loaded: any encoder.
        output: the folder; it is there once it is whole.
        format: transformers, sentence-transformers or onnx.
        int8: of onnx, see `write_onnx`.

    Raises:
        UserError: the folder is there already, or the format cannot hold this encoder.
    """
    if output.exists():
        raise UserError(f"output: {output}: is there already. Remove it, or name another folder.")
    if loaded.prepare(""):
        raise UserError(f"checkpoint: {loaded.source}: puts a prompt before each sentence, which no export of ours does.")
    encoder = loaded.encoder
    if format != "onnx" and not isinstance(encoder, SentenceEncoder):
        raise UserError(f"format={format}: {loaded.source} is of {loaded.kind} and stays in it; only format=onnx takes it.")
    source = local_path(loaded.source, "checkpoint")
    recorded = (recorded_section(source) if (source / "config.json").is_file() else None) or {}
    max_length = int(recorded.get("max_length", loaded.max_length))
    with replacing(output) as folder:
        library, code = "transformers", ""
        if format == "onnx":
            write_onnx(loaded, folder, int8=int8)
            library, code = "onnxruntime", ONNX_USAGE.replace("MAX_LENGTH", str(loaded.max_length))
        elif isinstance(encoder, SentenceEncoder):
            write(encoder, loaded.tokenizer, folder, max_length)
            code = usage(encoder, loaded.max_length)
            if format == "sentence-transformers":
                add_sentence_transformers(encoder, folder, loaded.max_length)
                library, code = format, SENTENCE_TRANSFORMERS_USAGE
        if recorded and (source / "README.md").is_file():
            card = (source / "README.md").read_text(encoding="utf-8")
        else:
            name = source.absolute().name if is_local(loaded.source) else loaded.source
            made = Provenance(name, None, {}, {}, "")
            card = model_card(loaded.pooler, loaded.projection, max_length, made, code)
        (folder / "README.md").write_text(card_with(code, library, card), encoding="utf-8")


def add_sentence_transformers(encoder: SentenceEncoder, folder: Path, max_length: int) -> None:
    """Make a folder that `write` wrote one of sentence-transformers too: modules.json and what it names.

    Means over two layers are WeightedLayerPooling with weights 0 and 1, and a projection is Dense with tanh.

    Args:
        encoder: what the folder holds.
        folder: the folder.
        max_length: tokens after which a sentence is cut.

    Raises:
        UserError: sentence-transformers is not installed.
    """
    try:
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.base.modules import Dense, Transformer
        from sentence_transformers.sentence_transformer.modules import Pooling, WeightedLayerPooling
    except ImportError as error:
        raise UserError(
            "format=sentence-transformers: needs sentence-transformers, which is not installed.\n"
            "Install it with: pip install 'simcse-lit[sentence-transformers]'"
        ) from error
    hidden, layers = encoder.hidden, int(encoder.backbone.config.num_hidden_layers)
    averaged = {"avg_first_last": (1, layers), "avg_top2": (layers - 1, layers)}.get(encoder.pooler)
    if averaged:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config["output_hidden_states"] = True
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    modules: list[nn.Module] = [Transformer(str(folder), max_seq_length=max_length)]
    if averaged:
        weights = torch.zeros(layers + 1)
        for layer in averaged:
            weights[layer] += 1
        modules.append(WeightedLayerPooling(hidden, layers, layer_start=0, layer_weights=nn.Parameter(weights)))
    mode = {"cls": "cls", "cls_before_pooler": "cls", "last_token": "lasttoken"}.get(encoder.pooler, "mean")
    modules.append(Pooling(hidden, pooling_mode=mode))
    if encoder.projection_name == "mlp" and encoder.projection is not None:
        dense = Dense(hidden, hidden, activation_function=nn.Tanh())
        dense.linear.load_state_dict(encoder.projection.dense.state_dict())
        modules.append(dense)
    with TemporaryDirectory() as saved:
        SentenceTransformer(modules=modules, device="cpu").save(saved, create_model_card=False)
        for path in Path(saved).iterdir():  # weights, configuration and tokenizer are there
            if path.is_dir():
                shutil.copytree(path, folder / path.name)
            elif path.name in ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"):
                shutil.copy(path, folder / path.name)


class _Graph(nn.Module):
    """What is traced."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return cast(Tensor, self.encoder.embed(input_ids, attention_mask))


def write_onnx(loaded: LoadedEncoder, folder: Path, *, int8: bool) -> None:
    """Write the graph, its configuration and its tokenizer to a folder that is there.

    Args:
        loaded: the encoder; it is moved to the CPU.
        folder: where to write.
        int8: weights of linear layers in one byte, activations quantised on the fly (onnxruntime's dynamic quantisation).

    Raises:
        UserError: onnx is not installed, or its code cannot be exported for any batch and length.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401  # torch's exporter needs it
    except ImportError as error:
        raise UserError(f"format=onnx: needs {error.name}, which is not installed.\n{INSTALL}") from error
    path = folder / MODEL
    graph = _Graph(loaded.encoder.to("cpu")).eval()
    ids_NL = torch.full((2, 8), int(loaded.tokenizer.pad_token_id or 0))
    sizes = {0: torch.export.Dim("sentences"), 1: torch.export.Dim("length", max=loaded.max_length)}
    logging.getLogger("onnxscript").setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings(), torch.no_grad():
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
    except Exception as error:  # the exporter wraps what it met in kinds of its own
        raise UserError(f"format=onnx: {loaded.source}: cannot be exported: {str(error).splitlines()[0]}") from error
    for given in onnx.load(path).graph.input:
        if not all(size.dim_param for size in given.type.tensor_type.shape.dim):
            raise UserError(f"format=onnx: {loaded.source}: its code fixes the number of sentences or of tokens.")
    if int8:
        _quantise(path)
    encoder: Any = loaded.encoder
    backbone = encoder.backbone if isinstance(encoder, SentenceEncoder) else encoder.model[0].auto_model
    backbone.config.simcse = {
        **getattr(backbone.config, "simcse", {}),
        "pooler": loaded.pooler,
        "projection": loaded.projection,
        "longest_input": loaded.max_length,
        "version": __version__,
        "onnx": "int8" if int8 else "float32",
    }
    backbone.config.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)


def _quantise(path: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    whole = path.with_suffix(".float32.onnx")
    path.rename(whole)
    logging.getLogger().setLevel(logging.ERROR)
    quantize_dynamic(whole, path, weight_type=QuantType.QInt8, per_channel=True)
    whole.unlink()
