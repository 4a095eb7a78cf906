"""Packs sentences into rows, several a row, so that one pass of the backbone holds next to no padding.

Each token attends to its own sentence alone, and positions start anew with each sentence, so that the mathematics is that of
padded rows. On a GPU it replaces length chunks, since one large pass keeps it busy and several small ones do not.

Shapes: n sentences, l length, T real tokens, R rows, W slots of a row, H hidden.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

WIDTH = 128  # slots of a row, unless a sentence is longer: wide rows fill better, narrow ones attend to less


@dataclass(frozen=True)
class Packing:
    """Where the tokens of n sentences stand in R rows of W slots.

    Args:
        tokens_RW: the place of each slot's token among the n x l of the sentences; 0 in an empty slot.
        sentences_RW: the sentence of each slot, or -1.
        positions_RW: the token's place in its sentence, from 0.
        places_T: the places of the real tokens among the n x l, in order.
        slots_T: the slot of each of them among the R x W.
        starts_n: the slot of each sentence's first token.
    """

    tokens_RW: Tensor
    sentences_RW: Tensor
    positions_RW: Tensor
    places_T: Tensor
    slots_T: Tensor
    starts_n: Tensor

    def to(self, device: torch.device) -> "Packing":
        """The same on a device; the host does not wait for a GPU to have it."""
        on_cuda = device.type == "cuda"
        tensors = (self.tokens_RW, self.sentences_RW, self.positions_RW, self.places_T, self.slots_T, self.starts_n)
        return Packing(*((t.pin_memory() if on_cuda else t).to(device, non_blocking=on_cuda) for t in tensors))

    def pack(self, tokens_nl: Tensor, empty: int) -> Tensor:
        """(n, l) numbers of tokens to (R, W), `empty` in slots without a token."""
        return torch.where(self.sentences_RW < 0, empty, tokens_nl.flatten()[self.tokens_RW])

    def unpack(self, hidden_RWH: Tensor, shape_nl: Sequence[int]) -> Tensor:
        """(R, W, H) to (n, l, H), 0 for padding."""
        hidden_TH = hidden_RWH.flatten(0, 1).index_select(0, self.slots_T)  # no slot twice: on a GPU that takes turns
        empty_NH = hidden_TH.new_zeros(math.prod(shape_nl), hidden_TH.shape[1])
        hidden_nlH: Tensor = empty_NH.index_copy(0, self.places_T, hidden_TH).unflatten(0, tuple(shape_nl))
        return hidden_nlH

    def first_tokens(self, hidden_RWH: Tensor) -> Tensor:
        """Those of the first token of each sentence, (R, W, H) to (n, 1, H)."""
        return hidden_RWH.flatten(0, 1).index_select(0, self.starts_n).unsqueeze(1)

    @property
    def mask_R1WW(self) -> Tensor:
        """True where one slot may attend to another, (R, 1, W, W). Empty slots attend to each other, never to a sentence."""
        return self.sentences_RW[:, None, :, None] == self.sentences_RW[:, None, None, :]


def first_position(backbone: PreTrainedModel) -> int | None:
    """The number of a sentence's first position in a backbone that sentences can be packed for, else None.

    These are BERT's and RoBERTa's kinds, whose attention takes any mask and whose positions can be given, under
    PyTorch's own attention (`model.attention` null or sdpa).
    """
    config = backbone.config
    if config._attn_implementation != "sdpa":
        return None
    if config.model_type in ("roberta", "xlm-roberta", "camembert"):
        return int(config.pad_token_id) + 1
    return 0 if config.model_type == "bert" else None


def pack(attention_mask_nl: Tensor, width: int = WIDTH) -> Packing:
    """Each sentence, longest first, goes into the row with the least room that it still fits (best-fit decreasing).

    Args:
        attention_mask_nl: 1 for real tokens, (n, l); padding must stand on the right, and no row be empty.
        width: slots of a row, if no sentence is longer.

    Returns:
        Few different numbers of rows for batches of about one size, so that compiled code seldom meets a new one.
    """
    lengths_n = attention_mask_nl.sum(1)
    order_n = lengths_n.argsort(descending=True, stable=True)
    lengths = lengths_n[order_n].tolist()
    width = max(width, -(-lengths[0] // 8) * 8)  # kernels of masked attention like multiples of eight
    rows_with_room: list[list[int]] = [[] for _ in range(width + 1)]
    rooms = 0  # bit r is set while some row has room for r tokens
    rows, starts = 0, []
    for length in lengths:
        enough = rooms >> length
        if enough:
            room = length + (enough & -enough).bit_length() - 1
            row = rows_with_room[room].pop()
            if not rows_with_room[room]:
                rooms ^= 1 << room
        else:
            room, row = width, rows
            rows += 1
        starts.append(row * width + width - room)
        if room > length:
            rows_with_room[room - length].append(row)
            rooms |= 1 << (room - length)
    step = 1 << max(0, rows.bit_length() - 6)
    rows = -(-rows // step) * step
    n, longest = attention_mask_nl.shape
    start_n = torch.empty(n, dtype=torch.long)
    start_n[order_n] = torch.tensor(starts)
    places_l = torch.arange(longest)
    real_nl = attention_mask_nl.bool()
    slots_T = (start_n[:, None] + places_l)[real_nl]
    places_T = real_nl.flatten().nonzero().squeeze(1)
    tokens, positions = torch.zeros(2, rows * width, dtype=torch.long)
    sentences = torch.full((rows * width,), -1)
    tokens[slots_T] = places_T
    positions[slots_T] = places_T % longest
    sentences[slots_T] = places_T // longest
    shape = (rows, width)
    return Packing(tokens.view(shape), sentences.view(shape), positions.view(shape), places_T, slots_T, start_n)
