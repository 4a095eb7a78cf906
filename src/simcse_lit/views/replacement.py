"""A device maker: it replaces tokens by the predictions of a masked language model (Table 1 of the paper, "MLM k = 15 %").

Other augmentations change the text before it is tokenised (`augmentation.py`). This one needs a forward pass, so it runs in
the training step.

Shapes: B examples, L length, N sentences, n of them, K vocabulary.
"""

from dataclasses import replace

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from simcse_lit.config.schema import ModelConfig
from simcse_lit.encoder.architecture import longest_input
from simcse_lit.encoder.backbone import load_backbone
from simcse_lit.errors import UserError
from simcse_lit.views.makers import DeviceMaker

KEY = "augmentation.model"
TOKENS = 2048  # of one pass, with padding; the scores of BERT's vocabulary then take 250 MB


class Replacement(DeviceMaker):
    """Replace some tokens of a view by the predictions of a frozen masked language model.

    This class is not an `nn.Module`, so checkpoints do not contain the language model, and it is not trained.

    Args:
        rate: share of the tokens of a sentence that is replaced.
        model: Hub id or folder of the language model; None for the checkpoint of the backbone. All layers are loaded, for
            any `model.num_layers`.
    """

    def __init__(self, rate: float, model: str | None = None) -> None:
        self.rate = rate
        self.model = model

    def setup(self, tokenizer: PreTrainedTokenizerFast, model: ModelConfig, longest: int) -> None:
        """Load the language model.

        Raises:
            UserError: the model cannot be loaded, has no head, has another vocabulary or has too few positions, or the
                tokenizer has no mask token.
        """
        if tokenizer.mask_token_id is None:
            raise UserError(
                f"augmentation=mlm: the tokenizer of {model.name_or_path} has no mask token.\n"
                "Use another augmentation, or a backbone that is a masked language model."
            )
        own = replace(model, num_layers=None, dropout=None, pretrained=True, gradient_checkpointing=False)
        source = own if self.model is None else replace(own, name_or_path=self.model, revision=None, sha256=None)
        language_model, its_tokenizer = load_backbone(source, mlm=True, own_head=True, key=KEY)
        name = source.name_or_path
        if its_tokenizer.get_vocab() != tokenizer.get_vocab():
            raise UserError(
                f"{KEY}: {name}: has another vocabulary than model.name_or_path={model.name_or_path}, and it\n"
                "predicts token ids. Name a language model with the tokenizer of the backbone."
            )
        takes = longest_input(language_model, its_tokenizer)
        if longest > takes:
            raise UserError(f"data.max_length={longest}: {KEY}={name} takes {takes} tokens at most.")
        self.use(language_model, tokenizer)

    def use(self, language_model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
        """Use this language model. It must have a trained head and the vocabulary of the tokenizer."""
        self.language_model = language_model.eval().requires_grad_(False)
        self._mask_token_id: int = tokenizer.mask_token_id
        self._special_ids = torch.tensor(tokenizer.all_special_ids)
        self._vocab_size = len(tokenizer)

    @torch.no_grad()
    def __call__(self, ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        """Mask the chosen tokens of each sentence together, and replace each by the most likely ordinary token.

        This may be the original token. The draws come from torch's generator. Lengths stay, so plans of chunks stay valid.

        Args:
            ids_BL: token ids, (B, L). They are not changed.
            mask_BL: 1 for real tokens, (B, L).

        Returns:
            New token ids, (B, L).

        Source: SimCSE section 3.1 and Table 1.
        """
        self._move_to(ids_BL.device)
        replaceable_BL = mask_BL.bool() & ~torch.isin(ids_BL, self._special_ids)
        chosen_BL = choose(replaceable_BL, self.rate)
        masked_BL = ids_BL.masked_fill(chosen_BL, self._mask_token_id)
        rows = max(1, TOKENS // ids_BL.shape[1])
        parts = zip(masked_BL.split(rows), mask_BL.split(rows), strict=True)
        guesses_BL = torch.cat([self._guess(masked_nL, mask_nL) for masked_nL, mask_nL in parts])
        return torch.where(chosen_BL, guesses_BL, ids_BL)

    def _guess(self, masked_nL: Tensor, attention_mask_nL: Tensor) -> Tensor:
        """Predict the most likely ordinary token at each place, (n, L)."""
        logits_nLK: Tensor = self.language_model(input_ids=masked_nL, attention_mask=attention_mask_nL).logits
        logits_nLK = logits_nLK[..., : self._vocab_size]  # a matrix of embeddings may have rows without a token
        return logits_nLK.index_fill_(2, self._special_ids, -torch.inf).argmax(2)

    def _move_to(self, device: torch.device) -> None:
        if self._special_ids.device != device:
            self._special_ids = self._special_ids.to(device)
            self.language_model.to(device)


def choose(replaceable_NL: Tensor, rate: float) -> Tensor:
    """Choose a random share of the replaceable tokens of each sentence: the rounded number, at least one if there is one.

    Args:
        replaceable_NL: true where a token may be chosen, (N, L).
        rate: the share.

    Returns:
        True where a token is chosen, (N, L).
    """
    replaceable_N = replaceable_NL.sum(1)
    count_N = (rate * replaceable_N).round().clamp(min=1)
    draws_NL = torch.rand(replaceable_NL.shape, device=replaceable_NL.device).masked_fill(~replaceable_NL, 2.0)
    place_NL = draws_NL.argsort(1).argsort(1)  # rank of each draw; tokens that cannot be chosen come last
    return (place_NL < count_N[:, None]) & replaceable_NL
