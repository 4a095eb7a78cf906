"""Replaces tokens of the positives by the guesses of a masked language model: Table 1 of the paper, "MLM k = 15 %".

Other augmentations change the text before it is tokenised (`augmentation.py`). This one needs a forward pass, so it works
in the training step, where the batch is.

Shapes: B examples, V views, L length, N sentences, n of them, K vocabulary.
"""

from dataclasses import replace

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from simcse_lit.config.schema import TrainConfig
from simcse_lit.encoder.architecture import longest_input
from simcse_lit.encoder.backbone import load_backbone
from simcse_lit.errors import UserError

KEY = "augmentation.model"
TOKENS = 2048  # of one pass, padding too: the scores of BERT's vocabulary then take 250 MB


class Replacement:
    """A frozen masked language model that guesses some tokens of the positives.

    It is no `nn.Module`, so what it holds is neither in checkpoints of the module that calls it nor among its parameters.

    Args:
        language_model: has a trained head, and the vocabulary of `tokenizer`.
        tokenizer: the backbone's; names the mask token and the special tokens.
        rate: share of a sentence's tokens that is replaced.
    """

    def __init__(self, language_model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, rate: float) -> None:
        self.language_model = language_model.eval().requires_grad_(False)
        self.rate = rate
        self._mask_token_id: int = tokenizer.mask_token_id
        self._special_ids = torch.tensor(tokenizer.all_special_ids)
        self._vocab_size = len(tokenizer)

    def __call__(self, input_ids_BVL: Tensor, attention_mask_BVL: Tensor) -> Tensor:
        """The same ids, (B, V, L), with tokens of the positives, view 1, replaced; the ids given are not changed."""
        replaced_BVL = input_ids_BVL.clone()
        replaced_BVL[:, 1] = self.replace(input_ids_BVL[:, 1], attention_mask_BVL[:, 1])
        return replaced_BVL

    @torch.no_grad()
    def replace(self, input_ids_NL: Tensor, attention_mask_NL: Tensor) -> Tensor:
        """Mask the chosen tokens of each sentence together, and put the likeliest token that is not special in each place.

        That may be the token that was there. Draws from torch's generator. Lengths stay, so plans of chunks stay valid.

        Args:
            input_ids_NL: token ids, (N, L); not changed.
            attention_mask_NL: 1 for real tokens, (N, L).

        Returns:
            Token ids, (N, L).

        Source: SimCSE section 3.1 and Table 1.
        """
        self._move_to(input_ids_NL.device)
        replaceable_NL = attention_mask_NL.bool() & ~torch.isin(input_ids_NL, self._special_ids)
        chosen_NL = choose(replaceable_NL, self.rate)
        masked_NL = input_ids_NL.masked_fill(chosen_NL, self._mask_token_id)
        rows = max(1, TOKENS // input_ids_NL.shape[1])
        parts = zip(masked_NL.split(rows), attention_mask_NL.split(rows), strict=True)
        guesses_NL = torch.cat([self._guess(masked_nL, mask_nL) for masked_nL, mask_nL in parts])
        return torch.where(chosen_NL, guesses_NL, input_ids_NL)

    def _guess(self, masked_nL: Tensor, attention_mask_nL: Tensor) -> Tensor:
        """The likeliest token of each place, (n, L)."""
        logits_nLK: Tensor = self.language_model(input_ids=masked_nL, attention_mask=attention_mask_nL).logits
        logits_nLK = logits_nLK[..., : self._vocab_size]  # a matrix of embeddings may have rows of no token
        return logits_nLK.index_fill_(2, self._special_ids, -torch.inf).argmax(2)

    def _move_to(self, device: torch.device) -> None:
        if self._special_ids.device != device:
            self._special_ids = self._special_ids.to(device)
            self.language_model.to(device)


def choose(replaceable_NL: Tensor, rate: float) -> Tensor:
    """Choose a share of each sentence's replaceable tokens at random: the nearest number, at least one if there is one.

    Args:
        replaceable_NL: true where a token may be chosen, (N, L).
        rate: the share.

    Returns:
        True where a token is chosen, (N, L).
    """
    replaceable_N = replaceable_NL.sum(1)
    count_N = (rate * replaceable_N).round().clamp(min=1)
    draws_NL = torch.rand(replaceable_NL.shape, device=replaceable_NL.device).masked_fill(~replaceable_NL, 2.0)
    place_NL = draws_NL.argsort(1).argsort(1)  # in the order of the draws, in which the others come last
    return (place_NL < count_N[:, None]) & replaceable_NL


def load_replacement(config: TrainConfig, tokenizer: PreTrainedTokenizerFast) -> Replacement | None:
    """What `augmentation=mlm` asks for, else None: the language model of `augmentation.model`, or the backbone's own.

    It is loaded whole, whatever `model.num_layers` says.

    Args:
        config: of a run.
        tokenizer: the backbone's.

    Raises:
        UserError: the model cannot be loaded, has no head, another vocabulary or too few positions, or the backbone's
            tokenizer has no mask token.
    """
    if config.augmentation.name != "mlm":
        return None
    if tokenizer.mask_token_id is None:
        raise UserError(
            f"augmentation=mlm: the tokenizer of {config.model.name_or_path} has no mask token.\n"
            "Use another augmentation, or a backbone that is a masked language model."
        )
    own = replace(config.model, num_layers=None, dropout=None, pretrained=True, gradient_checkpointing=False)
    given = config.augmentation.model
    source = own if given is None else replace(own, name_or_path=given, revision=None, sha256=None)
    language_model, its_tokenizer = load_backbone(source, mlm=True, own_head=True, key=KEY)
    name = source.name_or_path
    if its_tokenizer.get_vocab() != tokenizer.get_vocab():
        raise UserError(
            f"{KEY}: {name}: has another vocabulary than model.name_or_path={config.model.name_or_path}, and its guesses\n"
            "are token ids. Name a language model with the backbone's own tokenizer."
        )
    longest = longest_input(language_model, its_tokenizer)
    if config.data.max_length > longest:
        raise UserError(f"data.max_length={config.data.max_length}: {KEY}={name} takes {longest} tokens at most.")
    assert config.augmentation.rate is not None  # validation has seen to it
    return Replacement(language_model, tokenizer, config.augmentation.rate)
