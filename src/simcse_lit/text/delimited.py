"""Records of csv and tsv files. An unclosed quote loses only its line, not the rows after it.

A csv file is quoted as in RFC 4180. Its fields are separated by commas, or by semicolons or tabs if the header has those
instead. A tsv file has no quoting, as in SNLI and SentEval.
"""

import csv
import re
from collections import deque
from collections.abc import Iterator
from itertools import chain
from typing import Any

from simcse_lit.text.rows import BadRow

Record = tuple[int, "list[str] | BadRow"]

LONGEST = 1 << 24  # maximum characters of a field


def records(lines: Iterator[str], *, tabs: bool) -> Iterator[Record]:
    """Yield the first line of each record and its fields; the first record is the header.

    Args:
        lines: lines of the file, without line ends.
        tabs: whether it is a tsv file.
    """
    csv.field_size_limit(LONGEST)
    first = next(lines, None)
    if first is None:
        return
    delimiter = "\t" if tabs else _separator(first)
    options: dict[str, Any] = {"delimiter": delimiter, "strict": True}
    if tabs:
        options["quoting"] = csv.QUOTE_NONE
    else:
        names = next(csv.reader([first], delimiter=delimiter))
        options["skipinitialspace"] = any(name.startswith(" ") for name in names[1:])
    taken: list[str] = []  # the lines of this record
    again: deque[str] = deque()  # lines after an unclosed quote, to be read again
    rest = chain([first], lines)

    def feed() -> Iterator[str]:
        while True:
            line = again.popleft() if again else next(rest, None)
            if line is None:
                return
            taken.append(line)
            yield line + "\n"  # a quoted field keeps the line ends in it

    reader, start = csv.reader(feed(), **options), 1
    while True:
        taken.clear()
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            opened = _unclosed(taken, delimiter)
            if opened is None:
                lines_taken = f" (a record of {len(taken)} lines)" if len(taken) > 1 else ""
                hint = '; write a quote within a field as ""' if any('\\"' in line for line in taken) else ""
                yield start, BadRow(f"malformed CSV: {error}{lines_taken}{hint}")
                start += len(taken)
                continue
            last = start + len(taken) - 1
            swallowed = len(taken) - opened
            start += opened
            more = f"; it includes {swallowed} lines, to line {last}" if swallowed > 1 else ""
            yield start, BadRow(f"malformed CSV: the quote that opens here is never closed{more}")
            again.extendleft(reversed(taken[opened + 1 :]))
            start += 1
            reader = csv.reader(feed(), **options)  # the old one may have reached the end of the file
        else:
            yield start, fields
            start += len(taken)


def spans(fields: list[str]) -> int:
    """Count the lines of a record with these fields."""
    return 1 + sum(field.count("\n") for field in fields)


def _separator(header: str) -> str:
    return next((mark for mark in (",", ";", "\t") if mark in header), ",")


def _unclosed(lines: list[str], delimiter: str) -> int | None:
    """Return the place of the line with an unclosed quote in a record that cannot be read; None if there is none.

    Such a quote is open at the end of the record, or the quote that seems to close it starts another field.
    """
    opening = re.compile(rf'(?:^|{re.escape(delimiter)}) *"')
    opened = None
    for number, line in enumerate(lines):
        place = 0
        while True:
            if opened is None:
                match = opening.search(line, place)
                if match is None:
                    break
                opened, place = number, match.end()
                continue
            quote = line.find('"', place)
            if quote < 0:
                break
            behind = line[quote + 1 : quote + 2]
            if behind == '"':
                place = quote + 2
            elif behind in ("", delimiter):
                opened, place = None, quote + 1
            else:  # where the reader gave up
                opens = line[:quote].rstrip(" ")[-1:] in ("", delimiter)
                return opened if opens and opened < number else None
    return opened
