"""Packs several sentences into each row, so that one pass of the backbone has almost no padding.

Each token attends only to its own sentence, and positions start again at each sentence. So the result is that of padded
rows. On a GPU, packing replaces length chunks, because one large pass uses the GPU better than several small ones.

Shapes: n sentences, l length, T real tokens, R rows, W slots of a row, H hidden.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from simcse_lit.encoder.kinds import kind_of_model

WIDTH = 128  # slots of a row, unless a sentence is longer; wide rows waste fewer slots, narrow rows less attention


@dataclass(frozen=True)
class Packing:
    """The places of the tokens of n sentences in R rows of W slots.

    Args:
        tokens_RW: token of each slot, as an index into the n x l tokens; 0 in an empty slot.
        sentences_RW: sentence of each slot, or -1.
        positions_RW: position of the slot's token in its sentence, from 0.
        places_T: indices of the real tokens among the n x l tokens, ascending.
        slots_T: slot of each real token, as an index into the R x W slots.
        starts_n: slot of each sentence's first token.
    """

    tokens_RW: Tensor
    sentences_RW: Tensor
    positions_RW: Tensor
    places_T: Tensor
    slots_T: Tensor
    starts_n: Tensor

    def to(self, device: torch.device) -> "Packing":
        """Copy to a device. The host does not wait until a GPU has finished the copy."""
        on_cuda = device.type == "cuda"
        tensors = (self.tokens_RW, self.sentences_RW, self.positions_RW, self.places_T, self.slots_T, self.starts_n)
        return Packing(*((t.pin_memory() if on_cuda else t).to(device, non_blocking=on_cuda) for t in tensors))

    def pack(self, tokens_nl: Tensor, empty: int) -> Tensor:
        """Move numbers of tokens, (n, l), to their slots, (R, W). Slots without a token get `empty`."""
        return torch.where(self.sentences_RW < 0, empty, tokens_nl.flatten()[self.tokens_RW])

    def unpack(self, hidden_RWH: Tensor, shape_nl: Sequence[int]) -> Tensor:
        """Move vectors of slots, (R, W, H), back to their sentences, (n, l, H). Padding gets 0."""
        hidden_TH = hidden_RWH.flatten(0, 1).index_select(0, self.slots_T)  # each slot once: a GPU serialises repeats
        empty_NH = hidden_TH.new_zeros(math.prod(shape_nl), hidden_TH.shape[1])
        hidden_nlH: Tensor = empty_NH.index_copy(0, self.places_T, hidden_TH).unflatten(0, tuple(shape_nl))
        return hidden_nlH

    def first_tokens(self, hidden_RWH: Tensor) -> Tensor:
        """Select the first token of each sentence, (R, W, H) to (n, 1, H)."""
        return hidden_RWH.flatten(0, 1).index_select(0, self.starts_n).unsqueeze(1)

    @property
    def mask_R1WW(self) -> Tensor:
        """True where a slot may attend to another slot, (R, 1, W, W). Empty slots attend only to each other."""
        return self.sentences_RW[:, None, :, None] == self.sentences_RW[:, None, None, :]


def in_slots(
    compute: Callable[..., Tensor], can_pack: bool, ids_nl: Tensor, mask_nl: Tensor, packing: Packing | None
) -> Tensor:
    """Compute something at each token, for an encoder that may not take the packed rows of another.

    Args:
        compute: maps ids and mask, (n, l), and a packing or None, to (n, l, ...), or with a packing to (R, W, ...).
        can_pack: whether it takes a packing. Otherwise it gets padded rows, and the result is packed.
        ids_nl: token ids, (n, l).
        mask_nl: 1 for real tokens, (n, l).
        packing: places of the tokens in packed rows; None for padded rows.

    Returns:
        (n, l, ...) without a packing, and (R, W, ...) with one. Empty slots have the value of some token.
    """
    if packing is None or can_pack:
        return compute(ids_nl, mask_nl, packing)
    return compute(ids_nl, mask_nl, None).flatten(0, 1)[packing.tokens_RW]


def first_position(backbone: PreTrainedModel) -> int | None:
    """Return the position id of a sentence's first token, or None if the backbone cannot take packed rows.

    Some model types (`kinds.py`) take them with PyTorch's own attention (`model.attention` is null or sdpa).
    """
    of_first = kind_of_model(backbone).first_position
    return None if of_first is None or backbone.config._attn_implementation != "sdpa" else of_first(backbone.config)


def pack(attention_mask_nl: Tensor, width: int = WIDTH) -> Packing:
    """Put each sentence, longest first, into the fullest row that still has room for it: best-fit decreasing.

    Args:
        attention_mask_nl: 1 for real tokens, (n, l). Padding is on the right, and each sentence has a real token.
        width: slots of a row, unless a sentence is longer.

    Returns:
        The packing. The number of rows is rounded up, so that batches of similar size have few different shapes and code is
        rarely compiled again.
    """
    lengths_n = attention_mask_nl.sum(1)
    order_n = lengths_n.argsort(descending=True, stable=True)
    lengths = lengths_n[order_n].tolist()
    width = max(width, -(-lengths[0] // 8) * 8)  # kernels of masked attention are fastest for multiples of eight
    rows_with_room: list[list[int]] = [[] for _ in range(width + 1)]
    rooms = 0  # bit r is set if some row has room for exactly r tokens
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
