"""Saves the masked language model of `loss=mlm` as a Hugging Face folder, for AutoModelForMaskedLM and `model.name_or_path`.

The folder records no pooler, since no sentence vectors were trained: for every command it is a raw model.
"""

from pathlib import Path

from transformers import PreTrainedTokenizerFast

from simcse_lit.encoder.adapter import merge_adapter
from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.encoder.kinds import is_own
from simcse_lit.formats.export import copy_own_code
from simcse_lit.formats.model_card import Provenance, masked_lm_card
from simcse_lit.formats.whole_folder import whole_folder

USAGE = """from transformers import pipeline

folder = "."  # this folder
fill = pipeline("fill-mask", model=folder)
print(fill(f"A man is playing a {fill.tokenizer.mask_token}."))"""


def export_masked_lm(
    encoder: SentenceEncoder,
    tokenizer: PreTrainedTokenizerFast,
    folder: Path,
    *,
    max_length: int,
    provenance: Provenance,
) -> None:
    """Write the language model of an encoder to `folder`, with a model card. An older export there is replaced.

    Args:
        encoder: an encoder with a language model, on any device; an adapter is merged into its weights.
        tokenizer: its tokenizer.
        folder: where to write.
        max_length: tokens to which training cut texts, for the card.
        provenance: how the model was made, for the card.

    Raises:
        UserError: another process is writing the folder.
    """
    model = encoder.language_model
    assert model is not None
    merge_adapter(encoder.backbone)
    with whole_folder(folder, replace=True) as partial:
        config = model.config
        if hasattr(config, "simcse"):  # of the export that training started from
            del config.simcse
        decoder = model.get_output_embeddings()
        tied = decoder is None or decoder.weight is model.get_input_embeddings().weight
        config.tie_word_embeddings = tied and config.tie_word_embeddings
        copy_own_code(partial, AutoModel=encoder.backbone, AutoModelForMaskedLM=model)
        # transformers leaves out weights that share memory. Without tied embeddings it would not find the head's bias again.
        weights = None if tied else {name: weight.clone() for name, weight in model.state_dict().items()}
        model.save_pretrained(partial, state_dict=weights)
        tokenizer.save_pretrained(partial)
        code = USAGE.replace("model=folder", "model=folder, trust_remote_code=True") if is_own(model) else USAGE
        masked_lm_card(max_length, provenance, code).save(partial / "README.md")
