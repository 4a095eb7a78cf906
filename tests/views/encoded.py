"""The views of a configuration, for tests of what reads them."""

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerFast

from simcse_lit.config.roles import optional_places
from simcse_lit.config.schema import DataConfig, ModelConfig
from simcse_lit.views.encoded import EncodedViews
from simcse_lit.views.view import View, resolve, set_up


def views_of(data: DataConfig, tokenizer: PreTrainedTokenizerFast, makers: Sequence[Any] = ()) -> tuple[View, ...]:
    views = resolve(data, makers)
    set_up(views, tokenizer, ModelConfig(), data.max_length)
    return views


def encoded(data: DataConfig, tokenizer: PreTrainedTokenizerFast, makers: Sequence[Any] = ()) -> EncodedViews:
    made = views_of(data, tokenizer, makers)
    counted, optional = data.template_in_length, optional_places(data)
    return EncodedViews(made, tokenizer, data.max_length, counted=counted, optional=optional)
