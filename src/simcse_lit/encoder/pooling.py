"""Poolers: they read one vector for each sentence from the hidden states of a backbone. `head.py` has what follows.

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
    """Read one vector for each sentence from the hidden states. Write a subclass with `forward`.

    Attributes:
        first_token: the pooler reads the first token of the last layer and nothing else. It may then get the last hidden
            state of this token alone, (N, 1, H).
        every_layer: the pooler reads other layers than the last. Otherwise `hidden_states` has only the last hidden state.
        code: Python for the model card that computes `vectors` from `output` of AutoModel and from `batch`. None: the card
            uses simcse-lit.
        pooling_mode: mode of the module Pooling of sentence-transformers that computes the same, from the mean of the layers
            `averaged`. None: there is none.
        averaged: indices of these layers in `hidden_states`; empty for the last layer.
        name: the registered name. `make_pooler` sets it.
        target: the class. `make_pooler` sets it.
        arguments: arguments of the class, plain values only. An export records them.
    """

    first_token: ClassVar[bool] = False
    every_layer: ClassVar[bool] = False
    code: ClassVar[str | None] = None
    pooling_mode: ClassVar[str | None] = None
    averaged: ClassVar[tuple[int, ...]] = ()
    name: str
    target: str
    arguments: Mapping[str, Any]

    def __init__(self) -> None:  # without arguments, so that an error names the wrong one
        super().__init__()

    def set_up(self, behind_mask: int | None) -> None:
        """Look at the template of the sentences. Runs once, before the first sentence.

        Args:
            behind_mask: number of tokens from the mask token of the template to the end of the sentence; None without a
                template or without a mask token.

        Raises:
            UserError: the pooler needs another template.
        """

    def forward(self, hidden_states: Sequence[Tensor], attention_mask_NL: Tensor) -> Tensor:
        """Read the vectors.

        Args:
            hidden_states: hidden states, (N, L, H) each.
            attention_mask_NL: 1 for real tokens, 0 for padding, (N, L).

        Returns:
            The vectors, (N, H).
        """
        raise NotImplementedError(f"{type(self).__name__} has no forward(hidden_states, attention_mask)")

    def sentence_transformers(self, hidden: int, layers: int) -> list[nn.Module]:
        """Build the modules of sentence-transformers that compute the same after its module Transformer.

        Args:
            hidden: numbers of a vector, H.
            layers: transformer layers of the backbone.

        Raises:
            UserError: sentence-transformers has no such pooler.
        """
        if self.pooling_mode is None:
            raise UserError(
                f"format=sentence-transformers: it has no pooler like pooler={self.name}, so the vectors would differ.\n"
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
    """Average the real tokens of each sentence.

    Args:
        hidden_NLH: token vectors, (N, L, H).
        attention_mask_NL: 1 for real tokens, 0 for padding, (N, L).

    Returns:
        The means, (N, H).
    """
    mask_NL1 = attention_mask_NL.unsqueeze(-1).to(hidden_NLH.dtype)
    return (hidden_NLH * mask_NL1).sum(1) / mask_NL1.sum(1).clamp(min=1)


def behind_last(attention_mask_NL: Tensor, places: int) -> tuple[Tensor, Tensor]:
    """Find the token that is `places` tokens before the last real one. Padding may be on either side.

    Args:
        attention_mask_NL: 1 for real tokens, (N, L).
        places: number of tokens after the one to find.

    Returns:
        Rows and columns, (N,) each. For a sentence that is too short, the first column.
    """
    columns_L = torch.arange(attention_mask_NL.shape[1], device=attention_mask_NL.device)
    last_N = (attention_mask_NL * columns_L).amax(1)
    # torch.export keeps shape[0] dynamic, but not len()
    return torch.arange(last_N.shape[0], device=last_N.device), (last_N - places).clamp(min=0) if places else last_N


class CLS(Pooler):
    """Read the first token of the last layer.

    Source: SimCSE section 6.3.
    """

    first_token = True
    code = "vectors = output.last_hidden_state[:, 0]"
    pooling_mode = "cls"

    def forward(self, hidden_states: Sequence[Tensor], attention_mask_NL: Tensor) -> Tensor:
        """Read the vectors: see `Pooler.forward`."""
        return hidden_states[-1][:, 0]


class Average(Pooler):
    """Average the last layer over the real tokens."""

    code = f"{MASK}vectors = (output.last_hidden_state * mask).sum(1) / mask.sum(1)"
    pooling_mode = "mean"

    def forward(self, hidden_states: Sequence[Tensor], attention_mask_NL: Tensor) -> Tensor:
        """Read the vectors: see `Pooler.forward`."""
        return masked_mean(hidden_states[-1], attention_mask_NL)


class AverageFirstLast(Pooler):
    """Average the first and the last transformer layer over the real tokens.

    The first layer is `hidden_states[1]`. `hidden_states[0]` is the static embedding layer, which the printed BERT baseline
    of the paper averaged by mistake.

    Source: SimCSE Table 6, "first-last avg.".
    """

    every_layer = True
    code = f"{MASK}vectors = ((output.hidden_states[1] + output.hidden_states[-1]) / 2 * mask).sum(1) / mask.sum(1)"
    pooling_mode = "mean"
    averaged = (1, -1)

    def forward(self, hidden_states: Sequence[Tensor], attention_mask_NL: Tensor) -> Tensor:
        """Read the vectors: see `Pooler.forward`."""
        return masked_mean((hidden_states[1] + hidden_states[-1]) / 2, attention_mask_NL)


class AverageTop2(Pooler):
    """Average the last two layers. With a backbone of one layer, these are the embedding layer and that layer."""

    every_layer = True
    code = f"{MASK}vectors = ((output.hidden_states[-2] + output.hidden_states[-1]) / 2 * mask).sum(1) / mask.sum(1)"
    pooling_mode = "mean"
    averaged = (-2, -1)

    def forward(self, hidden_states: Sequence[Tensor], attention_mask_NL: Tensor) -> Tensor:
        """Read the vectors: see `Pooler.forward`."""
        return masked_mean((hidden_states[-2] + hidden_states[-1]) / 2, attention_mask_NL)


class LastToken(Pooler):
    """Read the last real token of the last layer. In a decoder, only this token attends to the whole sentence."""

    code = (
        'mask = batch["attention_mask"]\n'
        "last = (mask * torch.arange(mask.shape[1])).amax(1)\n"
        "vectors = output.last_hidden_state[torch.arange(len(last)), last]"
    )
    pooling_mode = "lasttoken"

    def forward(self, hidden_states: Sequence[Tensor], attention_mask_NL: Tensor) -> Tensor:
        """Read the vectors: see `Pooler.forward`."""
        return hidden_states[-1][behind_last(attention_mask_NL, 0)]


class MaskToken(Pooler):
    """Read the mask token of the template after the sentence, from the last layer.

    It is found from the end, so a mask token in the sentence is never used.

    Args:
        behind: number of tokens after the mask token, with special tokens. None: as in the template.

    Source: Jiang et al. 2022, PromptBERT: Improving BERT Sentence Embeddings with Prompts, section 3.
    """

    def __init__(self, behind: int | None = None) -> None:
        super().__init__()
        self.behind = behind

    def set_up(self, behind_mask: int | None) -> None:
        """Take the place of the mask token from the template: see `Pooler.set_up`."""
        if behind_mask is None:
            raise UserError(
                "pooler=mask: needs a template with one [MASK] after {text}, equally far from the end in each view.\n"
                "For example: data.template='This sentence of \"{text}\" means [MASK].' (in use: prompt=...)"
            )
        if self.behind not in (None, behind_mask):
            raise UserError(f"pooler.behind={self.behind}: the template has {behind_mask} tokens after its [MASK].")
        self.behind = behind_mask
        self.arguments = {"behind": behind_mask}

    @property
    def code(self) -> str:  # type: ignore[override]
        """Python for the model card: see `Pooler.code`."""
        return (
            'mask = batch["attention_mask"]\n'
            f"place = (mask * torch.arange(mask.shape[1])).amax(1) - {self.behind}\n"
            "vectors = output.last_hidden_state[torch.arange(len(place)), place]"
        )

    def forward(self, hidden_states: Sequence[Tensor], attention_mask_NL: Tensor) -> Tensor:
        """Read the vectors: see `Pooler.forward`."""
        if self.behind is None:
            raise ValueError("the number of tokens after the mask token is not known: call set_up first")
        return hidden_states[-1][behind_last(attention_mask_NL, self.behind)]


def make_pooler(node: str | Mapping[str, Any], key: str = "pooler") -> Pooler:
    """Build a pooler from a node of the configuration.

    Args:
        node: the registered name; or a mapping with `name`, arguments, and optionally the class as `_target_`.
        key: where the node is in the configuration, for messages.

    Raises:
        UserError: there is no such pooler, or it does not take these arguments.
    """
    whole = named("pooler", node, key)
    arguments = {name: value for name, value in whole.items() if name not in ("name", TARGET)}
    pooler = build({TARGET: whole[TARGET], **arguments}, key)
    if not isinstance(pooler, Pooler):
        raise UserError(f"{key}._target_={whole[TARGET]}: is not a simcse_lit.encoder.pooling.Pooler.")
    pooler.name, pooler.target, pooler.arguments = str(whole["name"]), str(whole[TARGET]), arguments
    return pooler
