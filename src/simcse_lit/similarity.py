"""Print cosine similarities of two sentences or files.

Examples:
  simcse-lit similarity checkpoint=MODEL first="A man is cycling." second="Someone rides a bike."
  simcse-lit similarity checkpoint=MODEL first=left.txt second=right.txt
"""

if __name__ == "__main__":
    from simcse_lit.cli.cli import run

    run("similarity")

from collections.abc import Iterator
from itertools import islice

from simcse_lit.config.checks.encode import reads
from simcse_lit.config.resolvers import means_file
from simcse_lit.config.schema import SimilarityConfig
from simcse_lit.encoder.device import find_device
from simcse_lit.encoding.input import TextFile
from simcse_lit.encoding.texts import Settings, vectors
from simcse_lit.errors import UserError
from simcse_lit.evaluation.geometry import cosines
from simcse_lit.formats.loading import load_encoder
from simcse_lit.reporting.run.console import quiet_libraries

BLOCK = 2048  # lines of two files that are encoded at a time


def main(config: SimilarityConfig) -> None:
    """Print one cosine similarity a line."""
    quiet_libraries()
    for cosine in similarity(config):
        print(f"{cosine:.4f}")


def similarity(config: SimilarityConfig) -> Iterator[float]:
    """Yield the cosine of two sentences, or of each text of a file with the text at the same place of the other.

    Raises:
        UserError: the encoder or a file cannot be used, or one file has more texts than the other.
    """
    given = {"first": str(config.first), "second": str(config.second)}
    files = {key: TextFile(name, config.column, key=key) for key, name in given.items() if means_file(name)}
    if len(files) == 1:
        (other,) = given.keys() - files.keys()
        raise UserError(f"{other}: {given[other]}: there is no such file, and a file can only be compared with a file.")
    if files and len(files["first"]) != len(files["second"]):
        counts = " and ".join(f"{len(file):,}" for file in files.values())
        raise UserError(f"first, second: {counts} texts. The files are compared line by line, so both need the same number.")
    loaded = load_encoder(str(config.checkpoint), **reads(config))
    loaded.encoder.to(find_device(config.device))
    settings = Settings(config.max_length, config.token_budget, config.precision, normalize=False)
    left, right = (file.texts() for file in files.values()) if files else (iter([text]) for text in given.values())
    while block := list(islice(left, BLOCK)):
        both_NH = vectors(loaded, [*block, *islice(right, len(block))], settings)
        yield from cosines(both_NH[: len(block)], both_NH[len(block) :]).tolist()
