"""An export format: one vector for each token of the vocabulary, in a NumPy file.

The vector of a sentence is the mean of its tokens' vectors, so no model runs. Only sentences of one token have the encoder's
own vector.

Shapes: V tokens of the vocabulary, L length, H hidden.
"""

from pathlib import Path

import numpy as np
import torch

from simcse_lit.formats.loading import LoadedEncoder
from simcse_lit.formats.usage import Usage

CODE = """import numpy as np
from transformers import AutoTokenizer

folder = "."  # this folder
tokenizer, table = AutoTokenizer.from_pretrained(folder), np.load(f"{folder}/table.npy")
sentences = ["A man is playing a guitar.", "Somebody makes music."]
ids = tokenizer(sentences, add_special_tokens=False)["input_ids"]
vectors = np.stack([table[tokens].mean(0) for tokens in ids])"""


@torch.no_grad()
def write_table(loaded: LoadedEncoder, folder: Path, dtype: str, batch: int) -> Usage:
    """Encode each token of the vocabulary as a sentence, with special tokens around it, and write the table of vectors.

    Args:
        loaded: any encoder.
        folder: an empty folder.
        dtype: the type of the numbers in the file, as NumPy names it.
        batch: how many tokens are encoded together.

    Returns:
        The library that loads the folder, and code for the model card.

    Source: after Model2Vec, Tulkens and van Dongen 2024.
    """
    word = loaded.tokenizer("a", return_special_tokens_mask=True)
    place = word["special_tokens_mask"].index(0)
    ids_VL = torch.tensor([word["input_ids"]]).repeat(len(loaded.tokenizer), 1)
    ids_VL[:, place] = torch.arange(len(ids_VL))
    parts = [loaded.encoder.embed(ids_nL, torch.ones_like(ids_nL)) for ids_nL in ids_VL.split(batch)]
    np.save(folder / "table.npy", torch.cat(parts).cpu().numpy().astype(dtype))
    loaded.tokenizer.save_pretrained(folder)
    return Usage("numpy", CODE)
