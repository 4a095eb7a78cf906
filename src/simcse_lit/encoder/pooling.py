"""The poolers: from a backbone's hidden states to one vector a sentence.

Shapes: N sentences, L length, H hidden. `hidden_states` is the tuple of transformers: the output of the embedding layer,
then that of each transformer layer. Means leave padding out.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from simcse_lit.config.extension import build
from simcse_lit.config.registered import TARGET, named
from simcse_lit.errors import UserError

MASK = 'mask = batch["attention_mask"].unsqueeze(-1)\n'


class Pooler(nn.Module):
    """Reads one vector a sentence from the hidden states. Write a subclass with `forward`; what else holds is said here.

    Attributes:
        first_token: it reads the first token of the last layer and nothing else. It may then be given the last hidden state
            of this token alone, (N, 1, H).
        every_layer: it reads other layers than the last; else `hidden_states` is the last hidden state alone.
        code: Python that computes `vectors` from `output` of AutoModel and the `batch`, for the model card; None if it takes
            simcse-lit.
        pooling_mode: of sentence-transformers' module Pooling that computes the same, perhaps of a mean of `averaged`
            layers; None if there is none.
        averaged: places of those layers, counted as in a list; empty for the last layer.
        name: under which it is registered; set by `make_pooler`.
        target: its class.
        arguments: what it was made with; an export records them. Plain values only.
    """

    first_token: ClassVar[bool] = False
    every_layer: ClassVar[bool] = False
    code: ClassVar[str | None] = None
    pooling_mode: ClassVar[str | None] = None
    averaged: ClassVar[tuple[int, ...]] = ()
    name: str
    target: str
    arguments: Mapping[str, Any]

    def __init__(self) -> None:  # without arguments, so that a wrong one is told by its name
        super().__init__()

    def set_up(self, behind_mask: int | None) -> None:
        """Look at the template of the sentences, once, before the first.

        Args:
            behind_mask: tokens behind its mask token, to the end of the sentence; None if it has none, or there is none.

        Raises:
            UserError: the pooler needs another template.
        """

    def forward(self, hidden_states: Sequence[Tensor], attention_mask_NL: Tensor) -> Tensor:
        """Of (N, L, H) hidden states and an (N, L) mask, the vectors (N, H)."""
        raise NotImplementedError(f"{type(self).__name__} has no forward(hidden_states, attention_mask)")

    def sentence_transformers(self, hidden: int, layers: int) -> list[nn.Module]:
        """Modules of sentence-transformers that compute the same behind its module Transformer.

        Args:
            hidden: numbers of a vector, H.
            layers: transformer layers of the backbone.

        Raises:
            UserError: it has none.
        """
        if self.pooling_mode is None:
            raise UserError(
                f"format=sentence-transformers: it has no pooler like pooler={self.name}; the vectors would be others.\n"
                "Use format=transformers or format=onnx."
            )
        from sentence_transformers.sentence_transformer.modules import Pooling, WeightedLayerPooling

        modules: list[nn.Module] = [Pooling(hidden, pooling_mode=self.pooling_mode)]
        if self.averaged:
            weights = torch.zeros(layers + 1)
            for layer in self.averaged:
                weights[layer] += 1
            modules.insert(0, WeightedLayerPooling(hidden, layers, layer_start=0, layer_weights=nn.Parameter(weights)))
        return modules


def masked_mean(hidden_NLH: Tensor, attention_mask_NL: Tensor) -> Tensor:
    """Mean over the real tokens of each sentence.

    Args:
        hidden_NLH: token vectors, (N, L, H).
        attention_mask_NL: 1 for real tokens, 0 for padding, (N, L).

    Returns:
        (N, H).
    """
    mask_NL1 = attention_mask_NL.unsqueeze(-1).to(hidden_NLH.dtype)
    return (hidden_NLH * mask_NL1).sum(1) / mask_NL1.sum(1).clamp(min=1)


def behind_last(attention_mask_NL: Tensor, places: int) -> tuple[Tensor, Tensor]:
    """Index of the token that stands so many places before the last real one, with padding on either side.

    Returns:
        Rows and columns, (N,) each. A shorter sentence gives its first column.
    """
    columns_L = torch.arange(attention_mask_NL.shape[1], device=attention_mask_NL.device)
    last_N = (attention_mask_NL * columns_L).amax(1)
    # shape[0] and not len(): torch.export keeps the former dynamic
    return torch.arange(last_N.shape[0], device=last_N.device), (last_N - places).clamp(min=0) if places else last_N


class CLS(Pooler):
    """First token of the last layer. Source: SimCSE section 6.3."""

    first_token = True
    code = "vectors = output.last_hidden_state[:, 0]"
    pooling_mode = "cls"

    def forward(self, hidden_states: Sequence[Tensor], attention_mask_NL: Tensor) -> Tensor:
        """As `Pooler.forward`."""
        return hidden_states[-1][:, 0]


class Average(Pooler):
    """Mean of the last layer."""

    code = f"{MASK}vectors = (output.last_hidden_state * mask).sum(1) / mask.sum(1)"
    pooling_mode = "mean"

    def forward(self, hidden_states: Sequence[Tensor], attention_mask_NL: Tensor) -> Tensor:
        """As `Pooler.forward`."""
        return masked_mean(hidden_states[-1], attention_mask_NL)


class AverageFirstLast(Pooler):
    """Mean of the first and the last transformer layer.

    The first layer is `hidden_states[1]`. `hidden_states[0]` is the static embedding layer, which the paper's printed
    BERT baseline averaged by mistake.

    Source: SimCSE Table 6, "first-last avg.".
    """

    every_layer = True
    code = f"{MASK}vectors = ((output.hidden_states[1] + output.hidden_states[-1]) / 2 * mask).sum(1) / mask.sum(1)"
    pooling_mode = "mean"
    averaged = (1, -1)

    def forward(self, hidden_states: Sequence[Tensor], attention_mask_NL: Tensor) -> Tensor:
        """As `Pooler.forward`."""
        return masked_mean((hidden_states[1] + hidden_states[-1]) / 2, attention_mask_NL)


class AverageTop2(Pooler):
    """Mean of the last two layers. With a backbone of one layer these are the embedding layer and that layer."""

    every_layer = True
    code = f"{MASK}vectors = ((output.hidden_states[-2] + output.hidden_states[-1]) / 2 * mask).sum(1) / mask.sum(1)"
    pooling_mode = "mean"
    averaged = (-2, -1)

    def forward(self, hidden_states: Sequence[Tensor], attention_mask_NL: Tensor) -> Tensor:
        """As `Pooler.forward`."""
        return masked_mean((hidden_states[-2] + hidden_states[-1]) / 2, attention_mask_NL)


class LastToken(Pooler):
    """Last real token of the last layer. In a decoder it is the one token that attends to the whole sentence."""

    code = (
        'mask = batch["attention_mask"]\n'
        "last = (mask * torch.arange(mask.shape[1])).amax(1)\n"
        "vectors = output.last_hidden_state[torch.arange(len(last)), last]"
    )
    pooling_mode = "lasttoken"

    def forward(self, hidden_states: Sequence[Tensor], attention_mask_NL: Tensor) -> Tensor:
        """As `Pooler.forward`."""
        return hidden_states[-1][behind_last(attention_mask_NL, 0)]


class MaskToken(Pooler):
    """The mask token of a template that stands behind the sentence, from the last layer.

    It is found from the end of the sentence, so a mask token in the sentence itself is never taken for it.

    Args:
        behind: tokens behind the mask token, special tokens included; None for those of the template.

    Source: Jiang et al. 2022, PromptBERT: Improving BERT Sentence Embeddings with Prompts, section 3.
    """

    def __init__(self, behind: int | None = None) -> None:
        super().__init__()
        self.behind = behind

    def set_up(self, behind_mask: int | None) -> None:
        """As `Pooler.set_up`."""
        if behind_mask is None:
            raise UserError(
                "pooler=mask: needs a template whose one [MASK] stands behind {text}, as far from the end in each view.\n"
                "For instance: data.template='This sentence of \"{text}\" means [MASK].' (in use: prompt=...)"
            )
        if self.behind not in (None, behind_mask):
            raise UserError(f"pooler.behind={self.behind}: the template has {behind_mask} tokens behind its [MASK].")
        self.behind = behind_mask
        self.arguments = {"behind": behind_mask}

    @property
    def code(self) -> str:  # type: ignore[override]
        """As `Pooler.code`."""
        return (
            'mask = batch["attention_mask"]\n'
            f"place = (mask * torch.arange(mask.shape[1])).amax(1) - {self.behind}\n"
            "vectors = output.last_hidden_state[torch.arange(len(place)), place]"
        )

    def forward(self, hidden_states: Sequence[Tensor], attention_mask_NL: Tensor) -> Tensor:
        """As `Pooler.forward`."""
        if self.behind is None:
            raise ValueError("how many tokens stand behind the mask token is not known: call set_up first")
        return hidden_states[-1][behind_last(attention_mask_NL, self.behind)]


def make_pooler(node: str | Mapping[str, Any], key: str = "pooler") -> Pooler:
    """Make a pooler.

    Args:
        node: its registered name; or `name`, arguments, and perhaps its class by `_target_`.
        key: where the node stands in the configuration, for messages.

    Raises:
        UserError: there is no such pooler, or it does not take these arguments.
    """
    whole = named("pooler", node, key)
    arguments = {name: value for name, value in whole.items() if name not in ("name", TARGET)}
    pooler = build({TARGET: whole[TARGET], **arguments}, key)
    if not isinstance(pooler, Pooler):
        raise UserError(f"{key}._target_={whole[TARGET]}: is no simcse_lit.encoder.pooling.Pooler.")
    pooler.name, pooler.target, pooler.arguments = str(whole["name"]), str(whole[TARGET]), arguments
    return pooler
