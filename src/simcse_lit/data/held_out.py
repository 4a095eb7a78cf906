"""The held-out rows of a corpus, masked once: what masked language modelling is validated on.

Shapes: n sentences of a batch, l longest of them, T tokens of all sentences.
"""

import math

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from transformers import PreTrainedTokenizerFast

from simcse_lit.data.collation import length_sorted, pad
from simcse_lit.errors import UserError
from simcse_lit.objective.mlm import IGNORED, mask_tokens

PROBABILITY = 0.15  # share of the masked tokens (BERT section 3.1), for any loss.mlm_probability
SEED = 0  # not the seed of the run: runs with other seeds are compared on the same masked tokens


def held_out_rows(rows: int, held_out: float) -> int:
    """Return how many rows at the end of a corpus are held out.

    Args:
        rows: rows of the corpus.
        held_out: `data.held_out`: below 1 a share of the rows, which is rounded up; else their number.

    Raises:
        UserError: no row is left for training.
    """
    count = math.ceil(rows * held_out) if held_out < 1 else int(held_out)
    if count >= rows:
        raise UserError(
            f"data.held_out={held_out:g}: data.train_file has {rows:,} usable rows, so none is left for training.\n"
            "Hold out a share of them: data.held_out=0.05"
        )
    return count


class MaskedBatches(TorchDataset[dict[str, Tensor]]):
    """Sentences with masked tokens, sorted by length and split into batches of at most `token_budget` padded tokens.

    The masks depend on the sentences and the tokenizer alone.

    Args:
        sentences: token ids of each sentence, with special tokens.
        tokenizer: the model's tokenizer, which has a mask token.
        token_budget: maximum rows times columns of a batch; a longer sentence gets a batch alone.
    """

    def __init__(self, sentences: pa.ListArray, tokenizer: PreTrainedTokenizerFast, *, token_budget: int) -> None:
        ids_T = torch.from_numpy(sentences.flatten().to_numpy().astype(np.int64))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            masked_T, labels_T = mask_tokens(
                ids_T,
                ~torch.isin(ids_T, torch.tensor(tokenizer.all_special_ids)),
                mask_token_id=int(tokenizer.mask_token_id),
                vocab_size=len(tokenizer),
                probability=PROBABILITY,
            )
        lengths = sentences.value_lengths().to_numpy()
        ends = lengths.cumsum()[:-1]
        self._ids, self._labels = np.split(masked_T.numpy(), ends), np.split(labels_T.numpy(), ends)
        self._pad_id = int(tokenizer.pad_token_id)
        self._batches = list(length_sorted(lengths.tolist(), token_budget))

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, batch: int) -> dict[str, Tensor]:
        """Return `input_ids`, `attention_mask` and `labels`, (n, l), the number of the batch and that of all batches."""
        index = self._batches[batch]
        lengths = np.array([len(self._ids[place]) for place in index])
        width = int(lengths.max())
        ids, mask = pad(np.concatenate([self._ids[place] for place in index]), lengths, self._pad_id, width)
        labels, _ = pad(np.concatenate([self._labels[place] for place in index]), lengths, IGNORED, width)
        return {
            "input_ids": torch.from_numpy(ids),
            "attention_mask": torch.from_numpy(mask),
            "labels": torch.from_numpy(labels),
            "batch": torch.tensor([batch, len(self)]),
        }
