"""Saves an encoder as a Hugging Face folder that records its pooler and projection, and loads it back.

AutoModel and AutoTokenizer load the folder. The section `simcse` of `config.json` holds pooler and projection. With
`pooler=cls` and `projection=mlp`, backbones that have BERT's pooler store the projection there too, as in the paper's
checkpoints: AutoModel's `pooler_output` is then the embedding.
"""

import json
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel, PreTrainedTokenizerFast
from transformers.dynamic_module_utils import custom_object_save

from simcse_lit import __version__
from simcse_lit.config.roles import ENDS, PLACE, STOPPED
from simcse_lit.data.collation import EVALUATION_LENGTH
from simcse_lit.encoder.adapter import merge_adapter
from simcse_lit.encoder.architecture import ENCODER_PART, check_pooler
from simcse_lit.encoder.denoising import recorded_denoising
from simcse_lit.encoder.encoder import Nodes, SentenceEncoder, parts_of
from simcse_lit.encoder.head import MLP
from simcse_lit.encoder.kinds import is_own
from simcse_lit.encoder.pretrained import Pretrained, some
from simcse_lit.errors import UserError
from simcse_lit.formats.model_card import Provenance, model_card
from simcse_lit.formats.truncation import recorded_truncation
from simcse_lit.formats.whole_folder import recover, whole_folder
from simcse_lit.text.prompts import Prompts
from simcse_lit.text.template import MASK

NO_PROMPTS = Prompts()
PROJECTION, POOLER = "projection.safetensors", "pooler.safetensors"  # weights of the head and, if it has any, of the pooler

POOLER_OUTPUT = "vectors = output.pooler_output"
SIMCSE_USAGE = """from simcse_lit import SimCSE

sentences = ["A man is playing a guitar.", "Somebody makes music."]
vectors = SimCSE(".").encode(sentences)  # this folder"""


def export(
    encoder: SentenceEncoder,
    tokenizer: PreTrainedTokenizerFast,
    folder: Path,
    *,
    max_length: int,
    provenance: Provenance,
    prompts: Prompts = NO_PROMPTS,
    replace: bool = True,
) -> None:
    """Write the encoder to `folder`, with a model card. An older export there is replaced when the new one is complete.

    Args:
        encoder: the encoder, on any device; an adapter is merged into its weights.
        tokenizer: its tokenizer.
        folder: where to write.
        max_length: tokens to which training cut sentences; recorded in `config.json`.
        provenance: how the encoder was made, for the card.
        prompts: the templates that it was trained with.
        replace: whether the folder may exist.

    Raises:
        UserError: another process is writing the folder, or it exists and `replace` is false.
    """
    with whole_folder(folder, replace=replace) as partial:
        write(encoder, tokenizer, partial, max_length, prompts)
        longest = min(EVALUATION_LENGTH, tokenizer.model_max_length)
        code = usage(encoder, longest, prompts.of("text"))
        card = model_card(
            encoder.pooler.name,
            encoder.head.name,
            max_length,
            provenance,
            "transformers",
            code,
            truncate_dim=encoder.truncate_dim,
        )
        card.save(partial / "README.md")


def write(
    encoder: SentenceEncoder, tokenizer: PreTrainedTokenizerFast, folder: Path, max_length: int, prompts: Prompts
) -> None:
    """Write weights, configuration and tokenizer to an existing folder; see `export` for the arguments."""
    merge_adapter(encoder.backbone)
    config = encoder.backbone.config
    config.simcse = {**encoder.record(), **prompts.record(), "max_length": max_length, "version": __version__}
    config.architectures = [type(encoder.backbone).__name__]
    copy_own_code(folder, AutoModel=encoder.backbone)
    config.save_pretrained(folder)
    weights = _on_cpu(encoder.backbone)
    if config.is_encoder_decoder:  # the names that AutoModel gives them in a model with a decoder
        weights = {f"{ENCODER_PART}{name}": tensor for name, tensor in weights.items()}
    if encoder.projection is not None:
        projection = _on_cpu(encoder.projection)
        save_file(projection, folder / PROJECTION)
        if encoder.stored_as_pooler:
            weights |= {f"pooler.{name}": tensor.clone() for name, tensor in projection.items()}
    if pooler := _on_cpu(encoder.pooler):
        save_file(pooler, folder / POOLER)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save_pretrained(folder)


def copy_own_code(folder: Path, **models: PreTrainedModel) -> None:
    """Copy the Python files of a model that is not part of transformers, and name its classes in the configuration.

    Args:
        folder: where to copy.
        models: the model, and parts of it with the same configuration, by the class of transformers that loads them.
    """
    for model in models.values():
        if hasattr(model.config, "auto_map"):  # it names files of the folder that was loaded
            del model.config.auto_map
    for auto, model in models.items():
        if is_own(model):
            type(model).register_for_auto_class(auto)
            custom_object_save(model, folder, config=cast(Any, model.config))


def _on_cpu(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}


def usage(encoder: SentenceEncoder, max_length: int, template: str | None) -> str:
    """Return Python code for the model card that computes the embeddings with transformers only.

    Args:
        encoder: the encoder in the export.
        max_length: tokens after which a sentence is cut.
        template: the text around each sentence; None for none.
    """
    other_head = encoder.projected and type(encoder.projection) is not MLP
    if encoder.pooler.code is None or other_head or encoder.denoised_in_use:
        return SIMCSE_USAGE
    lines = [
        "import torch",
        "from transformers import AutoModel, AutoTokenizer",
        "",
        'folder = "."  # this folder',
        "tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()",
        'sentences = ["A man is playing a guitar.", "Somebody makes music."]',
        'batch = tokenizer(sentences, padding=True, truncation=True, max_length=MAX_LENGTH, return_tensors="pt")'.replace(
            "MAX_LENGTH", str(max_length)
        ),
        "with torch.no_grad():",
        "    output = model(**batch, output_hidden_states=True)",
        POOLER_OUTPUT if encoder.stored_as_pooler else encoder.pooler.code,
    ]
    if encoder.backbone.config.is_encoder_decoder:
        lines.insert(5, "model = model.get_encoder()  # the decoder is not used, and is not in this folder")
    if is_own(encoder.backbone):
        lines = [line.replace("pretrained(folder)", "pretrained(folder, trust_remote_code=True)") for line in lines]
    if encoder.projected and not encoder.stored_as_pooler:
        lines[1:1] = ["from safetensors.torch import load_file"]
        lines += [
            f'mlp = load_file(f"{{folder}}/{PROJECTION}")',
            'vectors = torch.tanh(vectors @ mlp["dense.weight"].T + mlp["dense.bias"])',
        ]
    if encoder.truncate_dim is not None:
        lines.append(f"vectors = vectors[:, :{encoder.truncate_dim}]")
    return in_template("\n".join(lines), template)


def in_template(code: str, template: str | None) -> str:
    """Return the code of a card with a template around each sentence; None leaves the code as it is."""
    if template is None:
        return code
    mask = '.replace("[MASK]", tokenizer.mask_token)' if MASK in template else ""
    lines = [f"template = {template!r}{mask}"]
    if STOPPED in template:
        lines += [
            f"ends = tuple({ENDS!r})  # a sentence without one of these at its end gets a full stop",
            'sentences = [text if text.endswith(ends) else f"{text}." for text in map(str.rstrip, sentences)]',
        ]
    place = STOPPED if STOPPED in template else PLACE
    lines += [f'texts = [template.replace("{place}", sentence) for sentence in sentences]', "batch = tokenizer(texts"]
    start, line, rest = code.partition("batch = tokenizer(sentences")
    return start + "\n".join(lines) + rest if line else code


def load_export(
    folder: str | Path, *, trust_remote_code: bool = False, own: Nodes | None = None
) -> tuple[SentenceEncoder, PreTrainedTokenizerFast]:
    """Load the encoder, with its pooler and projection, and the tokenizer of an export, in evaluation mode.

    Args:
        folder: the export.
        trust_remote_code: run the Python code that the export brings, if its architecture is not part of transformers.
        own: the nodes `pooler` and `projection` that the user typed. They may name classes that no package registers.

    Raises:
        UserError: the folder is missing or damaged, is not an export, or has a pooler or head that is not installed here.
    """
    folder = Path(folder)
    recover(folder)
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder}: is not a model folder (no config.json).")
    section = recorded_section(folder)
    if section is None:
        raise UserError(f"{folder}: config.json has no section simcse, so it is not an export of simcse-lit.")
    given = Pretrained(str(folder), "checkpoint", trust_remote_code=trust_remote_code)
    try:
        pooler, head = parts_of(section, str(folder), own)
        backbone, absent = given.trained()
        _check_whole(folder / "model.safetensors", [name for name in absent if "pooler." not in name])
        encoder = SentenceEncoder(backbone, pooler, head)
        encoder.denoising = recorded_denoising(section)
        if encoder.projection is not None:
            _load_part(encoder.projection, folder / PROJECTION)
        if encoder.pooler.state_dict():
            _load_part(encoder.pooler, folder / POOLER)
        encoder.truncate_dim = recorded_truncation(section, encoder.hidden)
        tokenizer = given.tokenizer()
    except KeyError as error:
        raise UserError(
            f"{folder}: section simcse of config.json has no {error}. The export comes from another version of simcse-lit."
        ) from error
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError, UnpicklingError) as error:
        raise UserError(f"{folder}: the export is damaged: {str(error).splitlines()[0]}\nExport it again.") from error
    check_pooler(pooler, encoder.backbone, tokenizer, str(folder), saved=True)
    return encoder.eval(), tokenizer


def _load_part(part: torch.nn.Module, path: Path) -> None:
    saved, expected = load_file(path), part.state_dict()
    _check_whole(path, [name for name in expected if name not in saved or saved[name].shape != expected[name].shape])
    part.load_state_dict(saved)


def _check_whole(path: Path, absent: list[str]) -> None:
    if absent:
        raise UserError(f"{path}: the export is damaged: {some(absent)}.\nThey would be random. Export it again.")


def recorded_section(folder: Path) -> dict[str, Any] | None:
    """Read the section `simcse` of a model folder's `config.json`; None if the folder is not an export of simcse-lit.

    Raises:
        UserError: `config.json` cannot be read.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        section = config.get("simcse")
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{folder}: config.json is not a valid JSON object: {error}") from error
    return section if isinstance(section, dict) else None
