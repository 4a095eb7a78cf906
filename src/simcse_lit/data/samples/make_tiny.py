"""Makes `tiny/`, the architecture and tokenizer of `model=tiny`, from the bundled text. Run: python make_tiny.py

The tokenizer is a WordPiece of 2,000 entries; the weights are never saved, since `model=tiny` starts from random ones.
"""

from pathlib import Path

from tokenizers import BertWordPieceTokenizer
from transformers import BertConfig, BertTokenizer

FOLDER = Path(__file__).resolve().parent


def main() -> None:
    """Train the tokenizer and write both into `tiny/`."""
    wordpiece = BertWordPieceTokenizer()
    wordpiece.train([str(FOLDER / "wikipedia.txt"), str(FOLDER / "triplets.csv")], vocab_size=2000, show_progress=False)
    tokenizer = BertTokenizer(tokenizer_object=wordpiece._tokenizer, model_max_length=64)
    tokenizer.save_pretrained(FOLDER / "tiny")
    BertConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=64,
        architectures=["BertModel"],
    ).save_pretrained(FOLDER / "tiny")


if __name__ == "__main__":
    main()
