"""Small random models of many architectures, each with a tokenizer that puts special tokens where that architecture does."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModel,
    BartConfig,
    BertConfig,
    FNetConfig,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    LongformerConfig,
    MambaConfig,
    PreTrainedTokenizerFast,
    SqueezeBertConfig,
    T5Config,
    XLNetConfig,
)

SENTENCES = ["A man is playing a guitar .", "Rain .", "The council met for the third time to settle the budget ."]
WORDS = sorted({word for sentence in SENTENCES for word in sentence.split()} | set("abcdefgh"))
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>", "<mask>", "<sep>", "<cls>"]
TEMPLATES = {
    "bart": "<s> $A </s>",
    "bert": "<s> $A </s>",
    "bert-decoder": "<s> $A </s>",
    "llama": "<s> $A",
    "t5": "$A </s>",
    "xlnet": "$A <sep> <cls>",
}


def configuration(kind: str) -> Any:
    """Two layers of 32 units."""
    sizes: dict[str, Any] = {"vocab_size": len(SPECIAL) + len(WORDS), "pad_token_id": 0}
    named: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    feed: dict[str, Any] = {"intermediate_size": 48, "max_position_embeddings": 64}
    halves: dict[str, Any] = {
        f"{part}_{name}": value
        for part in ("encoder", "decoder")
        for name, value in (("layers", 2), ("ffn_dim", 48), ("attention_heads", 4))
    }
    match kind:
        case "bart":
            return BartConfig(**sizes, d_model=32, max_position_embeddings=64, **halves)
        case "t5":
            return T5Config(**sizes, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4)
        case "xlnet":
            return XLNetConfig(**sizes, d_model=32, n_layer=2, n_head=4, d_inner=48)
        case "gpt2":
            return GPT2Config(**sizes, n_embd=32, n_layer=2, n_head=4, n_positions=64)
        case "llama":
            return LlamaConfig(**sizes, **named, **feed)
        case "mamba":
            return MambaConfig(**sizes, hidden_size=32, num_hidden_layers=2, state_size=4)
        case "gemma-both-ways":
            return Gemma3TextConfig(**sizes, **named, **feed, head_dim=8, use_bidirectional_attention=True)
        case "longformer":
            return LongformerConfig(**sizes, **named, **feed, attention_window=4)
        case "squeezebert":
            groups: dict[str, Any] = {
                f"{part}_groups": 1 for part in ("q", "k", "v", "post_attention", "intermediate", "output")
            }
            return SqueezeBertConfig(**sizes, **named, **feed, **groups, embedding_size=32)
        case "fnet":
            return FNetConfig(**sizes, hidden_size=32, num_hidden_layers=2, **feed)
        case "bert-decoder":
            return BertConfig(**sizes, **named, **feed, is_decoder=True)
        case _:
            return BertConfig(**sizes, **named, **feed)


def tokenizer_of(kind: str) -> PreTrainedTokenizerFast:
    """Words of the sentences, and the special tokens of an architecture around them."""
    vocabulary = {word: place for place, word in enumerate([*SPECIAL, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if kind in TEMPLATES:
        special = [(token, vocabulary[token]) for token in SPECIAL if token in TEMPLATES[kind]]
        tokenizer.post_processor = processors.TemplateProcessing(single=TEMPLATES[kind], special_tokens=special)
    names = {"pad_token": "<pad>", "unk_token": "<unk>", "eos_token": "</s>", "mask_token": "<mask>", "cls_token": "<cls>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, sep_token="<sep>", bos_token="<s>", **names)


def save_model(folder: Path, kind: str) -> Path:
    """A folder as transformers saves it."""
    torch.manual_seed(0)
    AutoModel.from_config(configuration(kind)).save_pretrained(folder)
    tokenizer_of(kind).save_pretrained(folder)
    return folder


@torch.no_grad()
def states_alone(model: Any, tokenizer: PreTrainedTokenizerFast, sentences: Sequence[str] = SENTENCES) -> list[torch.Tensor]:
    """The last hidden states of each sentence alone, so without padding, (L, H) each."""
    batches = [tokenizer(sentence, return_tensors="pt")["input_ids"] for sentence in sentences]
    return [model.eval()(input_ids=ids).last_hidden_state[0] for ids in batches]
