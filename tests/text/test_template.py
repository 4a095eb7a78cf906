"""Templates: token ids of the whole text, sentences cut inside of them, and where the mask token stands."""

from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from simcse_lit.config.resolvers import local_path
from simcse_lit.errors import UserError
from simcse_lit.text.template import Template, special_tokens
from simcse_lit.text.tokens import TokenCounts, token_ids

TEMPLATES = ['This sentence of "{text}" means [MASK].', "The sentence : ' {text} ' means [MASK].", "query: {text}", "{text}"]
WORDS = "the water of a river is cold and deep 1 , . ' means sentence query"


@cache
def bert() -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(local_path("pkg://simcse_lit/data/samples/tiny", "test"))  # type: ignore[return-value]


@cache
def roberta() -> PreTrainedTokenizerFast:
    """Byte-level, with <s> and </s> around a sentence and <mask>, before which a blank is eaten."""
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    backend.train_from_iterator([WORDS] * 9, trainer)
    backend.post_processor = processors.TemplateProcessing("<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    named = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "mask_token": "<mask>"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **named)


@cache
def gpt() -> PreTrainedTokenizerFast:
    """Byte-level, without special tokens around a sentence, and without a mask token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({token: place for place, token in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token=alphabet[0])


texts = st.lists(st.sampled_from(WORDS.split()), min_size=1, max_size=12).map(" ".join)


@given(texts, st.sampled_from(TEMPLATES), st.sampled_from([bert, roberta]))
@settings(deadline=None)
def test_the_tokens_are_those_of_the_whole_text(text: str, form: str, kind: Any) -> None:
    tokenizer = kind()
    whole = form.replace("[MASK]", tokenizer.mask_token).replace("{text}", text)
    assert Template(form, tokenizer).encode([text], 100) == [tokenizer(whole)["input_ids"]]


@given(texts, st.sampled_from(TEMPLATES), st.sampled_from([bert, roberta]), st.integers(3, 12))
@settings(deadline=None)
def test_a_sentence_is_cut_as_without_a_template_and_the_template_is_whole(
    text: str, form: str, kind: Any, length: int
) -> None:
    tokenizer = kind()
    template = Template(form, tokenizer)
    (ids,) = template.encode([text], template.longest(length, counted=False))
    plain = template.uncut([text])[0]
    before, after = len(template.prefix_ids), len(ids) - len(template.suffix_ids)
    assert ids[:before] == list(template.prefix_ids) and ids[after:] == list(template.suffix_ids)
    assert ids[before:after] == plain[: length - 2]
    assert template.around(plain, template.longest(length, counted=False)) == ids


@pytest.mark.parametrize(
    ("text", "stopped"),
    [("a river", "a river."), ("a river ", "a river."), ("a river!", "a river!"), ('a "river"', 'a "river"'), ("", "")],
)
@pytest.mark.parametrize("kind", [bert, roberta])
def test_a_text_without_a_mark_at_its_end_gets_a_full_stop_where_the_template_asks_for_it(
    kind: Any, text: str, stopped: str
) -> None:
    asking, plain = (Template(f'This sentence : " {place} " means [MASK] .', kind()) for place in ("{text.}", "{text}"))
    assert asking.encode([text], 60) == plain.encode([stopped], 60)
    assert asking.uncut([text]) == plain.uncut([stopped])
    assert (asking.prefix_ids, asking.suffix_ids, asking.behind_mask) == (plain.prefix_ids, plain.suffix_ids, 2)


@pytest.mark.parametrize("kind", [bert, roberta, gpt])
def test_a_bare_template_is_no_template(kind: Any) -> None:
    tokenizer = kind()
    template = Template("{text}", tokenizer)
    for length in (3, 5, 64):
        lines = ["the water", "", "a river is cold and deep and cold and deep"]
        assert template.encode(lines, template.longest(length, counted=True)) == token_ids(lines, tokenizer, length)


def test_special_tokens_are_found_before_and_behind() -> None:
    assert special_tokens(bert()) == ((bert().cls_token_id,), (bert().sep_token_id,))
    assert special_tokens(roberta()) == ((1,), (2,))
    assert special_tokens(gpt()) == ((), ())


@pytest.mark.parametrize("kind", [bert, roberta])
@pytest.mark.parametrize("text", ["the river", "the [MASK] <mask> river"])
def test_the_mask_token_is_found_from_the_end_whatever_the_sentence_holds(kind: Any, text: str) -> None:
    tokenizer = kind()
    for form, behind in ((TEMPLATES[0], 2), ("{text} [MASK]", 1), ("{text} [MASK] .", 2)):
        template = Template(form, tokenizer)
        (ids,) = template.encode([text], 60)
        assert template.behind_mask == behind
        assert ids[-1 - behind] == tokenizer.mask_token_id


@pytest.mark.parametrize("form", ["{text}", "[MASK] : {text}", "[MASK] {text} [MASK]", "{text} [MASK] [MASK]"])
def test_without_one_mask_token_behind_the_sentence_there_is_no_such_place(form: str) -> None:
    assert Template(form, bert()).behind_mask is None


def test_texts_that_are_cut_or_blank_are_counted_without_the_template() -> None:
    counts, template = TokenCounts(), Template(TEMPLATES[0], bert())
    longest = len(template.prefix_ids) + len(template.suffix_ids) + 2
    template.encode(["the", "the water of a river", "\u4e00"], longest, counts)
    assert (counts.cut, counts.blank) == (1, 1)


def test_templates_that_cannot_be_are_named() -> None:
    for form in ("no place", "{text} and {text}", "{text} and {text.}"):
        with pytest.raises(UserError, match=r"data\.template=.*: must be a text with \{text\} exactly once"):
            Template(form, bert())
    with pytest.raises(UserError, match=r"the tokenizer has no mask token"):
        Template(TEMPLATES[0], gpt())
    with pytest.raises(UserError, match=r"data\.max_length=5 data\.template_in_length=true: the template alone has"):
        Template(TEMPLATES[0], bert()).longest(5, counted=True)
