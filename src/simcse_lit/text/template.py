"""A template: a text with a place for the sentence, `This sentence of "{text}" means [MASK].`

Its tokens are made once. A sentence is tokenised alone, cut, and put between them, so what surrounds it is always whole.
"""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerFast

from simcse_lit.config.roles import PLACE, check_template
from simcse_lit.errors import UserError
from simcse_lit.text.tokens import TokenCounts, text_ids

MASK = "[MASK]"  # in a template, the mask token of any tokenizer


class Template:
    """What stands before and behind a sentence, as token ids, with the special tokens of the tokenizer.

    Blanks before `{text}` are tokenised with the sentence, and blanks behind it with what follows: a byte-level tokenizer
    joins a blank to the word behind it. A sentencepiece tokenizer marks the start of each of the three parts as that of a
    word. `Template("{text}", tokenizer)` is the special tokens alone.

    Args:
        text: holds `{text}` once. `[MASK]` in it is the tokenizer's mask token, whatever that is called.
        tokenizer: the model's.
        key: of the configuration, for messages.

    Attributes:
        prefix_ids: before the sentence, special tokens included.
        suffix_ids: behind it, special tokens included.
        tokens: of the template itself, without the special tokens that every sentence has.
        behind_mask: how many tokens stand behind the template's mask token, special tokens included. None if it has no mask
            token or several, or if the sentence stands behind it.

    Raises:
        UserError: `{text}` is not there once, or the tokenizer has no mask token.
    """

    def __init__(self, text: str, tokenizer: PreTrainedTokenizerFast, key: str = "data.template") -> None:
        check_template(text, key)
        if MASK in text and tokenizer.mask_token is None:
            raise UserError(f"{key}={text}: the tokenizer has no mask token. Leave {MASK} out, or choose another model.")
        self.text = text
        self.tokenizer = tokenizer
        head, tail = text.replace(MASK, tokenizer.mask_token or MASK).split(PLACE)
        self._blanks = head[len(head.rstrip()) :]
        before, after = special_tokens(tokenizer)
        prefix, suffix = text_ids(tokenizer, [head.rstrip(), tail])
        self.tokens = len(prefix) + len(suffix)
        self.prefix_ids, self.suffix_ids = (*before, *prefix), (*suffix, *after)
        masks = [place for place, token in enumerate(self.suffix_ids) if token == tokenizer.mask_token_id]
        alone = len(masks) == 1 and tokenizer.mask_token_id not in self.prefix_ids
        self.behind_mask = len(self.suffix_ids) - 1 - masks[0] if alone else None

    def longest(self, max_length: int, *, counted: bool) -> int:
        """Tokens of the longest sentence in the template.

        Args:
            max_length: tokens of a sentence, with special tokens.
            counted: the template is among them; else it comes on top.

        Raises:
            UserError: it is among them, and leaves no room for a sentence.
        """
        if counted and max_length <= len(self.prefix_ids) + len(self.suffix_ids):
            raise UserError(
                f"data.max_length={max_length} data.template_in_length=true: the template alone takes "
                f"{len(self.prefix_ids) + len(self.suffix_ids)} tokens:\n{self.text}\nRaise data.max_length, or shorten it."
            )
        return max_length + (0 if counted else self.tokens)

    def encode(self, texts: Sequence[str], longest: int, counts: TokenCounts | None = None) -> list[list[int]]:
        """Token ids of sentences in the template.

        Args:
            texts: the sentences; each is cut so that all fits.
            longest: tokens of all together.
            counts: to which texts that were cut, or of which nothing was left, are added.
        """
        room = self._room(longest)
        ids = text_ids(self.tokenizer, [self._blanks + text for text in texts], room, counts)
        return [[*self.prefix_ids, *each, *self.suffix_ids] for each in ids]

    def uncut(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of sentences alone, without template and special tokens, for `around`."""
        return text_ids(self.tokenizer, [self._blanks + text for text in texts])

    def around(self, ids: list[int], longest: int) -> list[int]:
        """Token ids of a sentence, cut as the tokenizer would, with the template around them."""
        room = self._room(longest)
        cut = ids[-room:] if self.tokenizer.truncation_side == "left" else ids[:room]
        return [*self.prefix_ids, *cut, *self.suffix_ids]

    def _room(self, longest: int) -> int:
        return max(1, longest - len(self.prefix_ids) - len(self.suffix_ids))


def special_tokens(tokenizer: PreTrainedTokenizerFast) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The special tokens that a tokenizer puts before and behind a sentence."""
    (plain,), whole = text_ids(tokenizer, ["a"]), tokenizer("a", padding=False, truncation=False)["input_ids"]
    start = next(place for place in range(len(whole)) if whole[place : place + len(plain)] == plain)
    return tuple(whole[:start]), tuple(whole[start + len(plain) :])
