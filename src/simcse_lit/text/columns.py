"""Messages for columns that a table lacks: the columns that it has, and what to type."""

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from simcse_lit.errors import UserError

SHOWN = 20  # columns that a message names
# Columns that separate good pairs from bad ones, in lower case.
JUDGEMENTS = (
    *("label", "labels", "gold_label", "is_duplicate", "duplicate", "quality"),
    *("score", "scores", "similarity", "similarity_score", "relatedness_score"),
)


def judgements(header: Sequence[str]) -> list[str]:
    """Return the columns that separate good pairs from bad ones."""
    return [name for name in header if name.lower() in JUDGEMENTS]


def no_such_columns(
    key: str, file: str, header: Sequence[str], columns: Sequence[str], first_object: Mapping[str, Any]
) -> UserError:
    """Return the message for a table that lacks some of the columns.

    Args:
        key: configuration key that names the file; its group has the key `columns`.
        file: name of the file.
        header: columns of the file.
        columns: columns that were asked for.
        first_object: first object of a JSON file; otherwise empty.
    """
    group = key.rpartition(".")[0]
    missing = [column for column in columns if column not in header]
    more = f" and {len(header) - SHOWN:,} more" if len(header) > SHOWN else ""
    shown = f"{', '.join(header[:SHOWN])}{more}"
    lacks = f"{group}.columns: {file}: has no column {', '.join(missing)}. Its columns: {shown}.\n"
    for name, value in first_object.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return UserError(f"{lacks}Its rows are inside {name}. Extract them: jq -c '.{name}[]' FILE > NEW.jsonl")
    form = PurePosixPath(file.lower()).suffixes[:1]
    if len(header) == 1 and re.search("[,;]", header[0]) and form == [".tsv"]:
        return UserError(f"{lacks}A .tsv file is separated by tabs. If this one is not, rename it to end in .csv.")
    order = (
        f"the columns to read, in the order of [{', '.join(columns)}]: {group}.columns=[{','.join(['NAME'] * len(columns))}]"
    )
    if group == "data" and len(columns) > 2 and not set(missing) & set(columns[:2]):
        kept = [column for column in columns if column in header]
        return UserError(f"{lacks}To train without {', '.join(missing)}: data.columns=[{','.join(kept)}]\nOr name {order}")
    if group == "data" and len(columns) > 2 and any("label" in name.lower() for name in header):
        known = "Labelled NLI needs the columns premise, hypothesis and label. Rename yours."
        return UserError(f"{lacks}{known}\nOr name {order}")
    if any(" " in name for name in header) and form in ([".csv"], [".tsv"]):
        line = ("\\t" if form == [".tsv"] else ",").join(columns)
        return UserError(
            f"{lacks}Name {order}\nIf line 1 is an example, add a header to the file: (printf '{line}\\n'; cat FILE) > NEW"
        )
    if group == "data" and min(2, len(columns)) <= len(header) <= len(columns):
        return UserError(f"{lacks}For example data.columns=[{','.join(header)}]. Name {order}")
    return UserError(f"{lacks}Name {order}")
