"""The lines of a text file in UTF-8, or in UTF-16 or UTF-32 with a byte-order mark. Other encodings are refused.

A line ends in LF or CRLF. If the first lines of a file end in a bare CR, CR ends a line too.
"""

import re
import unicodedata
from collections.abc import Iterator
from io import BufferedReader, TextIOWrapper
from pathlib import Path
from typing import IO, Any

from simcse_lit.errors import UserError
from simcse_lit.text.encodings import candidates

HEAD = 1 << 13  # bytes that decide a file's encoding and line ends
MARKS = {b"\xff\xfe\0\0": "UTF-32", b"\0\0\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
OTHER_FILES = {  # first bytes of files that are not text
    b"\x1f\x8b": "compressed by gzip: its name must end in .gz",
    b"BZh9": "compressed by bzip2: its name must end in .bz2",
    b"\xfd7zXZ\0": "compressed by xz: its name must end in .xz",
    b"\x28\xb5\x2f\xfd": "compressed by Zstandard: its name must end in .zst",
    b"PAR1\x15": "a Parquet file: its name must end in .parquet",
    b"PK\x03\x04": "a zip archive (or a spreadsheet): unpack it, or save the sheet as .csv",
    b"%PDF-": "a PDF file: extract its text first",
    b"version https://git-lfs.": "a pointer of Git LFS, not the file: fetch it with git lfs pull",
    b"<!DOCTYPE html": "a web page, not the file: download the file itself",
    b"<!doctype html": "a web page, not the file: download the file itself",
}
MARK = "\ufeff"  # also at the start of later lines, if files were joined
TEXT_CONTROLS = "\t\n\r"
NO_CHARACTERS = ("Cc", "Cn", "Co", "Cs")  # categories: controls, unassigned and private characters, surrogates


def lines(file: IO[bytes], where: str, *, quoted: bool = False) -> Iterator[str]:
    """Yield the lines of an open file without line ends and byte-order mark.

    Args:
        file: the file, uncompressed.
        where: "KEY: FILE", for messages.
        quoted: whether a line end between double quotes is text.

    Raises:
        UserError: the file is in another encoding, or not text.
    """
    source: Any = file
    buffered = BufferedReader(source, HEAD)
    head = buffered.peek()
    encoding = next((name for mark, name in MARKS.items() if head.startswith(mark)), None)
    if encoding is None:
        _refuse_other_files(head, where)
    bare = _ends_in_bare_cr(head.decode(encoding or "latin-1", "ignore"), quoted)
    if encoding:
        yield from _marked(buffered, encoding, bare, where)
    else:
        yield from _utf8(_split(buffered, bare), where)


def lines_of(path: Path, where: str) -> Iterator[str]:
    """Yield the lines of a text file with any name.

    Raises:
        UserError: the file cannot be opened, is in another encoding, or is not text.
    """
    try:
        with path.open("rb") as file:
            yield from lines(file, where)
    except OSError as error:
        raise UserError(f"{where}: cannot be read: {error.strerror or error}.") from error


def _utf8(raw_lines: Iterator[bytes], where: str) -> Iterator[str]:
    foreign = 0  # the first line with non-ASCII characters in UTF-8
    for line, raw in enumerate(raw_lines, start=1):
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            raise _not_utf8(where, line, raw.rstrip(b"\r\n"), error.start, foreign) from error
        foreign = foreign or (0 if raw.isascii() else line)
        yield text.lstrip(MARK).rstrip("\r\n")


def _split(buffered: BufferedReader, bare: bool) -> Iterator[bytes]:
    if bare:  # latin-1 keeps every byte; only the text layer splits at CR
        return (line.encode("latin-1") for line in TextIOWrapper(buffered, "latin-1", newline=None))
    return iter(buffered)


def _marked(buffered: BufferedReader, encoding: str, bare: bool, where: str) -> Iterator[str]:
    line = 0
    try:
        for text in TextIOWrapper(buffered, encoding, newline=None if bare else "\n"):
            line += 1
            yield text.lstrip(MARK).rstrip("\r\n")
    except UnicodeError as error:
        raise UserError(
            f"{where}, after line {line}: the file is damaged: its byte-order mark is that of {encoding}."
        ) from error


def _ends_in_bare_cr(head: str, quoted: bool) -> bool:
    outside = re.sub(r'"[^"]*("|$)', "", head) if quoted else head
    bare = len(re.findall(r"\r(?!\n|$)", outside))  # the LF of the last one may follow
    return bare > 0 and bare >= outside.count("\n")


def _refuse_other_files(head: bytes, where: str) -> None:
    for first, what in OTHER_FILES.items():
        if head.startswith(first):
            raise UserError(f"{where}: is {what}.")
    if head.count(0) * 200 > len(head):  # each blank and line end of UTF-16 has one
        raise UserError(f"{where}, line 1: {_zero_bytes(head)}")


def _zero_bytes(head: bytes) -> str:
    """Explain a text with zero bytes."""
    text = head.decode(errors="ignore")
    whole = len(text.encode()) > len(head) - 4  # the last character may be cut
    if whole and text.count("\0") * 4 < len(text) and not _no_characters(text.replace("\0", "")):
        return "zero bytes within text. Remove them: tr -d '\\000' < FILE > NEW"
    wide = {name: head.decode(name, "ignore") for name in ("UTF-16LE", "UTF-16BE")}
    odd = {name: (_no_characters(text), -sum(map(str.isascii, text))) for name, text in wide.items()}
    encoding = min(odd, key=lambda name: odd[name])
    if odd[encoding][0] * 10 > len(wide[encoding]):
        return "zero bytes: the file is damaged, or not text."
    return (
        f"not UTF-8: zero bytes, as in {encoding} without a byte-order mark.\n"
        f"Convert the file: iconv -f {encoding} -t utf-8 FILE > NEW"
    )


def _no_characters(text: str) -> int:
    return sum(unicodedata.category(char) in NO_CHARACTERS and char not in TEXT_CONTROLS for char in text)


def _not_utf8(where: str, line: int, raw: bytes, start: int, foreign: int) -> UserError:
    if re.match(b"\xed[\xa0-\xbf][\x80-\xbf]", raw[start:]):
        return UserError(
            f"{where}, line {line}: not UTF-8: half of a surrogate pair at position {start + 1}, as in CESU-8.\n"
            "Write the file again with Python's encoding='utf-8', or drop such bytes: iconv -c -f utf-8 -t utf-8 FILE > NEW"
        )
    found = candidates(raw, start)
    message = f"{where}, line {line}: not UTF-8 (byte {raw[start]:#04x} at position {start + 1})."
    if found:
        message += " In other encodings the line reads:" + "".join(f"\n  {name:<20}{excerpt}" for name, excerpt in found)
    else:
        message += " No other known encoding decodes the line."
    repaired = raw.decode("utf-8", "replace")
    damaged = repaired.count("\ufffd")
    if sum(not character.isascii() for character in repaired) > 2 * damaged:  # most characters are UTF-8
        foreign = foreign or line
    if foreign:
        return UserError(
            f"{message}\nLine {foreign} has characters in UTF-8, so the file is mixed or damaged.\n"
            "Fix the line, or drop such bytes: iconv -c -f utf-8 -t utf-8 FILE > NEW"
        )
    if not found:
        return UserError(f"{message}\nThe file is damaged, or not text.")
    first = found[0][0].partition(" ")[0]
    return UserError(
        f"{message}\nConvert the file from the encoding that reads right, e.g.: iconv -f {first} -t utf-8 FILE > NEW"
    )
