"""Objects of a JSON file: one a line (jsonl), one array of objects, or objects that span several lines.

A file with an object a line is read line by line. The other forms are held in memory.
"""

import json
import re
from collections.abc import Iterator
from itertools import chain
from typing import Any

from simcse_lit.text.rows import BadRow

BLANK = re.compile(r"\s*")


class BrokenJson(Exception):
    """A file that cannot be read further. The text says why, `line` where."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line


def objects(lines: Iterator[str]) -> Iterator[tuple[int, "dict[str, Any] | BadRow"]]:
    """Yield the first line of each object, and the object.

    Raises:
        BrokenJson: an array, or an object of several lines, is malformed.
    """
    before: list[str] = []
    for line in lines:
        before.append(line)
        if line.strip():
            break
    first = before[-1].strip() if before else ""
    rest = chain(before, lines)
    if first.startswith("[") or first == "{":
        yield from _of_document("\n".join(rest))
    else:
        yield from ((number, _of_line(line)) for number, line in enumerate(rest, start=1))


def _of_line(line: str) -> dict[str, Any] | BadRow:
    if not line.strip():
        return BadRow("blank")
    try:
        return _object(json.loads(line))
    except (ValueError, RecursionError) as error:  # ValueError: JSONDecodeError, or a number of thousands of digits
        return BadRow(f"not JSON: {getattr(error, 'msg', error)}")


def _object(value: Any) -> dict[str, Any] | BadRow:
    return value if isinstance(value, dict) else BadRow("not a JSON object")


def _of_document(text: str) -> Iterator[tuple[int, dict[str, Any] | BadRow]]:
    decoder, place, line = json.JSONDecoder(), 0, 1

    def forward(to: int) -> None:
        nonlocal place, line
        line += text.count("\n", place, to)
        place = to

    def skip_blank() -> None:
        match = BLANK.match(text, place)
        assert match
        forward(match.end())

    skip_blank()
    array = text[place] == "["
    forward(place + array)
    while True:
        skip_blank()
        if place == len(text) and not array:
            return
        if array and text.startswith("]", place):
            break
        try:
            value, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            forward(getattr(error, "pos", place))
            raise BrokenJson(line, f"not JSON: {getattr(error, 'msg', error)}") from error
        yield line, _object(value)
        forward(end)
        skip_blank()
        if array and text.startswith(",", place):
            forward(place + 1)
        elif array and not text.startswith("]", place):
            raise BrokenJson(line, "not JSON: expected a comma, or the array's end")
    forward(place + 1)
    skip_blank()
    if place < len(text):
        raise BrokenJson(line, "not JSON: text after the array's end")
