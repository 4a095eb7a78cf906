"""Encodes texts with a loaded encoder: each distinct text once, in batches of similar length.

Shapes: N texts, H hidden.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from simcse_lit.encoding.passes import encode
from simcse_lit.formats.loading import LoadedEncoder


@dataclass(frozen=True)
class Settings:
    """Settings for encoding texts.

    Args:
        max_length: tokens after which a text is cut; the encoder's own limit applies too.
        token_budget: padded tokens of a batch; changes speed, not the vectors.
        precision: 32-true, bf16-mixed or 16-mixed.
        normalize: scale vectors to length 1.
    """

    max_length: int
    token_budget: int
    precision: str
    normalize: bool


def vectors(
    loaded: LoadedEncoder, texts: Sequence[str], settings: Settings, *, use: str = "text", progress: str | None = None
) -> Tensor:
    """Encode one or more texts into vectors in their order, (N, H), float32 on the CPU.

    Args:
        loaded: the encoder.
        texts: any strings; repeated ones are encoded once.
        settings: length, batches, precision, normalisation.
        use: what the texts are for, `text`, `query` or `document`: a model may have a prompt for each.
        progress: label of the progress bar; None for no bar.

    Raises:
        UserError: a vector holds a NaN or an infinity.
    """
    found_NH = encode(
        loaded.encoder,
        loaded.tokenizer,
        texts,
        max_length=min(settings.max_length, loaded.max_length),
        token_budget=settings.token_budget,
        precision=settings.precision,
        template=loaded.template(use),
        progress=progress,
    )
    return F.normalize(found_NH, dim=-1) if settings.normalize else found_NH


def unencodable(text: object) -> str | None:
    """Return why an encoder cannot encode a value as a text, or None if it can."""
    if not isinstance(text, str):
        return f"is a {type(text).__name__}, not a string"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "holds half of a surrogate pair"
    return None
