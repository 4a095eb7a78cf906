"""Files in encodings other than UTF-8: read by their byte-order mark, or refused with encodings that decode the line."""

import bz2
import gzip
import io
import lzma
import re
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from simcse_lit.encoding.input import TextFile
from simcse_lit.errors import UserError
from simcse_lit.text.encodings import candidates
from simcse_lit.text.lines import lines_of
from simcse_lit.text.sources import Source

TEXTS = ["un café très naïve", "這是一個句子", "emoji \U0001f600, and more"]


def read(path: Path, *columns: str) -> list[Any]:
    return [getattr(row, "fields", row) for row in Source(path, path.name, "data.train_file").rows(columns or ("text",))]


def refused(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read(path)
    return str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    ("suffix", "head", "line"),
    [(".txt", "", "{}"), (".csv", "text{}", '"{}"'), (".tsv", "text{}", "{}"), (".jsonl", "", '{{"text": "{}"}}')],
)
def test_a_byte_order_mark_tells_the_encoding(
    tmp_path: Path, encoding: str, end: str, suffix: str, head: str, line: str
) -> None:
    mark = "\ufeff" if encoding in ("utf-16-le", "utf-16-be") else ""
    content = mark + head.format(end) + "".join(line.format(text) + end for text in TEXTS)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content.encode(encoding))
    assert read(path) == [(text,) for text in TEXTS]


def test_utf16_is_read_through_compression_and_by_every_reader(tmp_path: Path) -> None:
    content = "\n".join(TEXTS).encode("utf-16")
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(content))
    (tmp_path / "a.txt").write_bytes(content)
    assert list(TextFile(str(tmp_path / "a.txt.gz"), None, key="input").texts()) == TEXTS
    assert list(lines_of(tmp_path / "a.txt", "demo.corpus: a.txt")) == TEXTS


def test_utf16_that_ends_in_half_a_character_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("one\ntwo\n".encode("utf-16")[:-1])
    assert "a.txt, after line" in (said := refused(tmp_path / "a.txt")) and "UTF-16" in said


@pytest.mark.parametrize(("codec", "name"), [("utf-16-le", "UTF-16LE"), ("utf-16-be", "UTF-16BE")])
def test_utf16_without_a_mark_is_named(tmp_path: Path, codec: str, name: str) -> None:
    (tmp_path / "a.txt").write_bytes("one\ntwo\n".encode(codec))
    assert f"iconv -f {name} -t utf-8" in refused(tmp_path / "a.txt")


@pytest.mark.parametrize(
    ("text", "codec", "name"),
    [
        ("这是一个中文句子，用于训练。", "gbk", "GB18030 (GBK)"),
        ("一只狗在公园里奔跑", "gb18030", "GB18030 (GBK)"),
        ("這是一個中文句子，用於訓練。", "big5", "BIG5"),
        ("これは日本語の文です。", "shift_jis", "CP932 (Shift-JIS)"),
        ("東京は日本の首都である", "euc_jp", "EUC-JP"),
        ("이것은 한국어 문장입니다.", "euc_kr", "CP949 (EUC-KR)"),
        ("Le café est là, très naïve.", "latin1", "CP1252 (latin-1)"),
        ("“quoted” – the author’s", "cp1252", "CP1252 (latin-1)"),
        ("zażółć gęślą jaźń", "cp1250", "CP1250"),
        ("Это предложение на русском языке.", "cp1251", "CP1251"),
        ("Это предложение на русском языке.", "koi8_r", "KOI8-R"),
        ("Αυτή είναι μια πρόταση", "cp1253", "CP1253"),
    ],
)
def test_the_encoding_that_was_written_is_among_the_candidates_and_shows_the_text(
    tmp_path: Path, text: str, codec: str, name: str
) -> None:
    raw = text.encode(codec)
    with pytest.raises(UnicodeDecodeError) as broken:
        raw.decode()
    found = dict(candidates(raw, broken.value.start))
    assert found[name] in text and len(found[name]) >= min(len(text), 8)
    for candidate in found:  # each decodes the whole line
        raw.decode(candidate.partition(" ")[0])
    (tmp_path / "a.txt").write_bytes(b"ascii\n" * 2 + raw + b"\n")
    said = refused(tmp_path / "a.txt")
    assert re.match(r"data\.train_file: a\.txt, line 3: not UTF-8 ", said) and f"  {name}" in said and found[name] in said
    assert "iconv -f" in said and "-f latin1" not in said


@pytest.mark.parametrize(
    ("text", "codec", "first"),
    [
        ("这是一个句子。", "gbk", "GB18030"),
        ("これは文です", "shift_jis", "CP932"),
        ("très naïve", "latin1", "CP1252"),
        ("Это русский", "koi8_r", "KOI8-R"),
    ],
)
def test_the_most_plausible_encoding_is_the_one_in_the_command(tmp_path: Path, text: str, codec: str, first: str) -> None:
    (tmp_path / "a.txt").write_bytes(text.encode(codec))
    assert f"iconv -f {first} -t utf-8 FILE > NEW" in refused(tmp_path / "a.txt")


def test_a_damaged_line_of_a_utf8_file_is_not_a_reason_to_convert_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("ascii\nun café\n".encode() + b"un caf\xe9\n")
    said = refused(tmp_path / "a.txt")
    assert "line 3: not UTF-8" in said and "Line 2 has characters in UTF-8" in said
    assert re.findall(r"iconv .*", said) == ["iconv -c -f utf-8 -t utf-8 FILE > NEW"]


def test_a_line_that_no_encoding_decodes_to_text_gets_no_candidate(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"a\n\x02\x98\x88\x08\x8a\x88\n")
    said = refused(tmp_path / "a.txt")
    assert "line 2: not UTF-8" in said and said.endswith("The file is damaged, or not text.") and "iconv" not in said


def test_a_line_most_of_which_is_utf8_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("très été naïve caf".encode() + b"\xe9\n")
    assert re.findall(r"iconv .*", refused(tmp_path / "a.txt")) == ["iconv -c -f utf-8 -t utf-8 FILE > NEW"]


def packed() -> dict[str, bytes]:
    archive, table = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.txt", "one\n")
    parquet.write_table(pa.table({"text": ["one"]}), table)
    return {
        ".gz": gzip.compress(b"one\n"),
        ".bz2": bz2.compress(b"one\n"),
        ".xz": lzma.compress(b"one\n"),
        ".parquet": table.getvalue(),
        "zip archive": archive.getvalue(),
    }


@pytest.mark.parametrize("what", list(packed()))
def test_a_file_that_is_no_text_is_named_for_what_it_is(tmp_path: Path, what: str) -> None:
    (tmp_path / "a.txt").write_bytes(packed()[what])
    assert what in refused(tmp_path / "a.txt").partition("\n")[0]


def test_a_sentence_that_begins_as_such_a_file_does_is_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("PAR1 is a receptor.\nPK\n")
    assert read(tmp_path / "a.txt") == [("PAR1 is a receptor.",), ("PK",)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n", "a pointer of Git LFS"),
        (b"<!DOCTYPE html>\n<html>\n", "a web page"),
        (b"SQLite format 3\0\x10\0\1\1\0@  \0\0\0" + bytes(80), "zero bytes: the file is damaged, or not text"),
        (b"one\0two\nthree\n", "line 1: zero bytes within text. Remove them: tr -d"),
        (b"a\n\xed\xa0\xbd\xed\xb8\x80\n", "line 2: not UTF-8: half of a surrogate pair at position 1"),
    ],
)
def test_what_is_no_other_encoding_is_not_to_be_converted(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    assert said in (message := refused(tmp_path / "a.txt")) and "iconv -f UTF-16" not in message


@pytest.mark.parametrize("text", ["一一一一一个句子\n" * 9, "один два три\n", "one\r\ntwo\r\n", "ไทย ภาษา\n", "oneline"])
@pytest.mark.parametrize(("codec", "name"), [("utf-16-le", "UTF-16LE"), ("utf-16-be", "UTF-16BE")])
def test_the_order_of_bytes_is_told_by_what_the_text_says(tmp_path: Path, text: str, codec: str, name: str) -> None:
    (tmp_path / "a.txt").write_bytes(text.encode(codec))
    assert f"iconv -f {name} -t utf-8" in refused(tmp_path / "a.txt")


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16"])
def test_a_mark_within_a_file_of_joined_ones_is_no_text(tmp_path: Path, codec: str) -> None:
    (tmp_path / "a.txt").write_bytes("one\n".encode(codec) + "two\n".encode(codec))
    assert read(tmp_path / "a.txt") == [("one",), ("two",)]


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ("one\rtwo\rthree\r", ["one", "two", "three"]),
        ("one\rtwo\rthree", ["one", "two", "three"]),
        ("one\rtwo\rthree\n", ["one", "two", "three"]),
        ("one\rtwo\n", ["one", "two"]),
        ("one\n\rtwo\nthree\nfour\n", ["one", "\rtwo", "three", "four"]),  # a stray one is text, as it always was
    ],
)
def test_a_bare_cr_ends_a_line_in_a_file_of_such_lines(tmp_path: Path, content: str, rows: list[str]) -> None:
    (tmp_path / "a.txt").write_bytes(content.encode())
    assert read(tmp_path / "a.txt") == [(row,) for row in rows]


def test_a_table_with_bare_cr_has_its_rows_and_their_lines(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes('"sent0","sent1"\r"a, b",c\rd,\xe9\r'.encode())
    rows = list(Source(tmp_path / "a.csv", "a.csv", "k").rows(["sent0", "sent1"]))
    assert [(row.line, row.fields) for row in rows] == [(2, ("a, b", "c")), (3, ("d", "é"))]  # type: ignore[union-attr]
    (tmp_path / "b.txt").write_bytes(b"one\rtwo\rcaf\xe9\rfour\r")
    assert "b.txt, line 3: not UTF-8" in refused(tmp_path / "b.txt")


def test_a_bare_cr_inside_quotes_is_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'text\n"a\rb\rc\rd"\n')
    assert read(tmp_path / "a.csv") == [("a\rb\rc\rd",)]
