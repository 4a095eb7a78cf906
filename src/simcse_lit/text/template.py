"""A template: a text with a place for the sentence, such as `This sentence of "{text}" means [MASK].`

The template is tokenised once. A sentence is tokenised separately, truncated, and inserted, so the template is always
complete.
"""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerFast

from simcse_lit.config.roles import PLACE, STOPPED, check_template, stopped
from simcse_lit.errors import UserError
from simcse_lit.text.tokens import TokenCounts, text_ids

MASK = "[MASK]"  # in a template, the mask token of any tokenizer


class Template:
    """The token ids before and after a sentence, including the special tokens of the tokenizer.

    Blanks before `{text}` are tokenised with the sentence, and blanks after it with the text that follows, since a
    byte-level tokenizer joins a blank to the next word. A sentencepiece tokenizer marks each of the three parts as the start
    of a word. `Template("{text}", tokenizer)` has only the special tokens.

    Args:
        text: has `{text}` once, or `{text.}`, which gives a sentence without a punctuation mark at its end a full stop.
            `[MASK]` in it is the tokenizer's mask token, whatever its name.
        tokenizer: the model's tokenizer.
        key: configuration key, for messages.

    Attributes:
        prefix_ids: ids before the sentence, with special tokens.
        suffix_ids: ids after the sentence, with special tokens.
        tokens: number of tokens of the template, without the special tokens of every sentence.
        behind_mask: number of tokens after the template's mask token, with special tokens. None if it has no mask token or
            several, or if the sentence comes after the mask token.

    Raises:
        UserError: the text does not have `{text}` exactly once, or the tokenizer has no mask token.
    """

    def __init__(self, text: str, tokenizer: PreTrainedTokenizerFast, key: str = "data.template") -> None:
        check_template(text, key)
        if MASK in text and tokenizer.mask_token is None:
            raise UserError(f"{key}={text}: the tokenizer has no mask token. Remove {MASK}, or choose another model.")
        self.text = text
        self.tokenizer = tokenizer
        self._stops = STOPPED in text
        head, tail = text.replace(STOPPED, PLACE).replace(MASK, tokenizer.mask_token or MASK).split(PLACE)
        self._blanks = head[len(head.rstrip()) :]
        before, after = special_tokens(tokenizer)
        prefix, suffix = text_ids(tokenizer, [head.rstrip(), tail])
        self.tokens = len(prefix) + len(suffix)
        self.prefix_ids, self.suffix_ids = (*before, *prefix), (*suffix, *after)
        masks = [place for place, token in enumerate(self.suffix_ids) if token == tokenizer.mask_token_id]
        alone = len(masks) == 1 and tokenizer.mask_token_id not in self.prefix_ids
        self.behind_mask = len(self.suffix_ids) - 1 - masks[0] if alone else None

    def longest(self, max_length: int, *, counted: bool) -> int:
        """Return the tokens of the longest sentence in the template.

        Args:
            max_length: maximum tokens of a sentence, with special tokens.
            counted: whether they include the template; otherwise it is added.

        Raises:
            UserError: the template leaves no room for a sentence.
        """
        if counted and max_length <= len(self.prefix_ids) + len(self.suffix_ids):
            raise UserError(
                f"data.max_length={max_length} data.template_in_length=true: the template alone has "
                f"{len(self.prefix_ids) + len(self.suffix_ids)} tokens:\n{self.text}\nIncrease data.max_length, or "
                "shorten the template."
            )
        return max_length + (0 if counted else self.tokens)

    def encode(self, texts: Sequence[str], longest: int, counts: TokenCounts | None = None) -> list[list[int]]:
        """Return the token ids of sentences in the template.

        Args:
            texts: the sentences; each is truncated to fit.
            longest: maximum tokens of sentence and template.
            counts: counts truncated texts, and texts without known tokens.
        """
        room = self._room(longest)
        ids = text_ids(self.tokenizer, self._inserted(texts), room, counts)
        return [[*self.prefix_ids, *each, *self.suffix_ids] for each in ids]

    def uncut(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of sentences without truncation, template and special tokens, for `around`."""
        return text_ids(self.tokenizer, self._inserted(texts))

    def around(self, ids: list[int], longest: int) -> list[int]:
        """Truncate the token ids of a sentence as the tokenizer would, and put the template around them."""
        return [*self.prefix_ids, *self.cut(ids, longest), *self.suffix_ids]

    def cut(self, ids: list[int], longest: int) -> list[int]:
        """Truncate the token ids of a sentence, so that sentence and template have at most `longest` tokens."""
        room = self._room(longest)
        return ids[-room:] if self.tokenizer.truncation_side == "left" else ids[:room]

    def _inserted(self, texts: Sequence[str]) -> list[str]:
        """Return the texts as they stand in the template."""
        return [self._blanks + (stopped(text) if self._stops else text) for text in texts]

    def _room(self, longest: int) -> int:
        return max(1, longest - len(self.prefix_ids) - len(self.suffix_ids))


def special_tokens(tokenizer: PreTrainedTokenizerFast) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the special tokens that a tokenizer puts before and after a sentence."""
    (plain,), whole = text_ids(tokenizer, ["a"]), tokenizer("a", padding=False, truncation=False)["input_ids"]
    start = next(place for place in range(len(whole)) if whole[place : place + len(plain)] == plain)
    return tuple(whole[:start]), tuple(whole[start + len(plain) :])
