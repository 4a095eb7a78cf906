"""Describes in words what was read of a training corpus, from the counts in `environment.json`.

`SimCSEDataModule.summary` makes the counts.
"""

from collections.abc import Mapping
from typing import Any


def described(read: Mapping[str, Any], batch_size: int) -> list[str]:
    """Describe rows that were left out, cut, duplicate or unchanged.

    Args:
        read: the counts.
        batch_size: of the run, in examples.

    Returns:
        Short phrases; none if there is nothing to report.
    """
    held_out = read.get("held_out", 0)
    said = [f"{held_out:,} rows held out"] if held_out else []
    if read["rows"] != read["examples"] + held_out:
        what = "rows of" if read["examples"] + held_out + read["left_out"] == read["rows"] else "examples of"
        rows = "" if what == "rows of" else " rows"
        said.append(
            f"{read['examples']:,} {what} {read['rows']:,}{rows}"
            + (f", {read['left_out']:,} left out" * bool(read["left_out"]))
        )
        if read["unlabelled"]:
            said[-1] += f" ({read['unlabelled']:,} without a gold label)"
    duplicates = {name: count for name, count in read["duplicates"].items() if count}
    if duplicates.keys() == {"texts"}:
        said.append(f"{duplicates['texts']:,} duplicates")
    elif duplicates:
        said.append("duplicates: " + ", ".join(f"{count:,} {name}" for name, count in duplicates.items()))
    if read["cut"]:
        said.append(f"{read['cut']:,} cut at {read['max_length']} tokens")
    if read["blank"]:
        said.append(f"{read['blank']:,} blank to the tokenizer")
    if read.get("unchanged"):
        of = f" of {read['compared']:,}" if read["compared"] < read["examples"] else ""
        said.append(f"{read['unchanged']:,}{of} unchanged by the augmentation")
    if read["shortest_batch"] < batch_size:
        said.append(f"shortest batch {read['shortest_batch']:,}")
    return said
