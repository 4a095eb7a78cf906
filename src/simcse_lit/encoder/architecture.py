"""What a backbone is: an encoder, a decoder or both, its longest input, and what its first token can see.

No other module of simcse-lit asks these questions. `kinds.py` has the facts about single model types.
"""

import logging
import sys
from typing import Any, cast

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from simcse_lit.encoder.kinds import kind_of
from simcse_lit.encoder.pooling import Pooler
from simcse_lit.errors import UserError

log = logging.getLogger(__name__)

ENCODER_PART = "encoder."  # the prefix of an encoder's weights in an encoder-decoder (T5, BART)


def text_encoder(model: PreTrainedModel) -> PreTrainedModel:
    """Return the part of a model that reads a sentence: the encoder of an encoder-decoder (T5, BART), else the whole model.

    Training, exports and scores do not use the decoder.

    Raises:
        ValueError: the model has no hidden state for each token of a text, or its states depend on padding.
    """
    kind = kind_of(model.config.model_type)
    if kind.padding_counts:
        raise ValueError(f"{type(model).__name__} reads padding, so a sentence has another vector in each batch")
    if getattr(model.config, "hidden_size", None) is None:
        raise ValueError(f"{type(model).__name__} is not an encoder of text: its configuration has no hidden_size")
    for name, parameter in model.named_parameters():
        if name.endswith(kind.unreached):
            parameter.requires_grad_(False)
    if not model.config.is_encoder_decoder:
        return model
    encoder = cast(PreTrainedModel, model.get_encoder())
    encoder.config.is_encoder_decoder = True  # T5's encoder has a copy of the configuration, where it may be false
    return encoder


def longest_input(backbone: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> int:
    """Return the number of tokens that both the positions of the model and its tokenizer allow.

    Relative positions have no limit: T5 has no `max_position_embeddings`, and that of XLNet is -1.
    """
    config = backbone.config
    limits = (getattr(config, name, None) for name in ("max_position_embeddings", "max_encoder_position_embeddings"))
    positions: int = next((limit for limit in limits if limit and limit > 0), sys.maxsize)
    embeddings: Any = getattr(backbone.base_model, "embeddings", None)
    if getattr(embeddings, "padding_idx", None) is not None:  # RoBERTa's first position is padding_idx + 1
        positions -= embeddings.padding_idx + 1
    return min(positions, tokenizer.model_max_length)


def check_pooler(
    pooler: Pooler, backbone: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, name: str, *, saved: bool = False
) -> None:
    """Refuse a pooler that reads the first token if this token sees no other, and warn if it is an ordinary word.

    Args:
        pooler: the pooler.
        backbone: the model.
        tokenizer: its tokenizer.
        name: the model's name, for messages.
        saved: the encoder was trained with this pooler, so there is only a warning.

    Raises:
        UserError: the model is a decoder and the pooler reads the first token.
    """
    if not pooler.first_token:
        return
    if is_causal(cast(PreTrainedModel, backbone.base_model), tokenizer):
        blind = (
            f"pooler={pooler.name}: {name} is a decoder, whose first token sees none of the others: sentences that\n"
            "begin with the same token have the same vector. "
        )
        if not saved:
            raise UserError(f"{blind}Use the token that sees all others, pooler=last_token, or the mean, pooler=avg.")
        log.warning("%sTrain again with pooler=last_token.", blind)
    ids = tokenizer("a")["input_ids"]
    if saved or not ids or ids[0] in tokenizer.all_special_ids:
        return
    at_end = ids[-1] == tokenizer.cls_token_id
    instead = "pooler=last_token reads its [CLS], which comes last" if at_end else "pooler=avg is usual"
    log.warning(
        "pooler=%s: %s puts no token before a sentence, so a word stands for it;\n%s.",
        pooler.name,
        name,
        instead,
    )


@torch.no_grad()
def is_causal(backbone: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> bool:
    """Tell whether no token sees the tokens after it, as in a decoder.

    Masked language models see both sides. Every other architecture is tried: if two inputs differ only in the last token and
    the state of their first token is the same, the model is causal.
    """
    config = backbone.config
    masked_lm = kind_of(config.model_type).masked_lm
    if masked_lm is None:
        masked_lm = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if masked_lm and not getattr(config, "is_decoder", False):
        return False
    ordinary = [place for place in range(len(tokenizer)) if place not in tokenizer.all_special_ids]
    ids = torch.tensor([ordinary[:4], [*ordinary[:3], *ordinary[4:5]]], device=backbone.device)
    training, attention = backbone.training, config._attn_implementation
    may_need_gpu = attention not in (None, "eager", "sdpa")  # and the model is still on the CPU
    backbone.eval()
    if may_need_gpu:
        backbone.set_attn_implementation("eager")
    first_2H = backbone(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[:, 0]
    if may_need_gpu:
        backbone.set_attn_implementation(attention)
    backbone.train(training)
    return bool((first_2H[0] - first_2H[1]).norm() < 1e-5 * first_2H[0].norm())
