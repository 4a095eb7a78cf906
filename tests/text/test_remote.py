"""Compressed files and files behind URLs: the rows of the plain local file, and what a user reads when one cannot be had."""

import bz2
import gzip
import hashlib
import io
import lzma
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import pyarrow as pa
import pytest
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem
from pyarrow import parquet

from simcse_lit.data.streaming import open_stream
from simcse_lit.encoding.input import TextFile
from simcse_lit.errors import UserError
from simcse_lit.text.sources import ZSTD, Source, open_sources
from tests.conftest import LIMIT_S

KEY = "data.train_file"
ROWS = [(f'row {number}, "said" \u00e9', f"{number}") for number in range(300)]
PACK: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
try:
    zstd: Any = import_module(ZSTD)
except ImportError:
    zstd = None


def table() -> bytes:
    file = io.BytesIO()
    columns = zip(*ROWS, strict=True)
    parquet.write_table(pa.table(dict(zip(("a", "b"), map(list, columns), strict=True))), file, row_group_size=100)
    return file.getvalue()


CONTENT = {
    ".csv": "a,b\n" + "".join('"{}",{}\n'.format(a.replace('"', '""'), b) for a, b in ROWS),
    ".tsv": "a\tb\n" + "".join(f"{a}\t{b}\n" for a, b in ROWS),
    ".jsonl": "".join('{{"b": "{}", "a": "{}"}}\n'.format(b, a.replace('"', '\\"')) for a, b in ROWS),
}
FILES = {suffix: content.encode() for suffix, content in CONTENT.items()} | {".parquet": table()}
FILES[".json"] = FILES[".jsonl"]


def local(location: str) -> list[Source]:
    return open_sources(location, None, key=KEY)


def streamed(location: str) -> list[Source]:
    return open_stream(location, None)


def rows(sources: list[Source], *columns: str) -> list[Any]:
    return [getattr(row, "fields", row) for source in sources for row in source.rows(columns or ("a", "b"))]


@pytest.fixture
def memory() -> Iterator[Callable[..., str]]:
    """Puts files into fsspec's memory, in a folder of this test, and gives its URL."""
    folder, files = uuid4().hex, fsspec.filesystem("memory")

    def put(**contents: bytes) -> str:
        for name, content in contents.items():
            files.pipe(f"/{folder}/{name.replace('_', '.')}", content)
        return f"memory://{folder}"

    yield put
    files.rm(f"/{folder}", recursive=True)


@pytest.mark.parametrize("packing", list(PACK))
@pytest.mark.parametrize("suffix", [suffix for suffix in FILES if suffix != ".parquet"])
def test_a_compressed_file_gives_the_rows_that_were_packed(tmp_path: Path, suffix: str, packing: str) -> None:
    path = tmp_path / f"some.pairs{suffix}{packing}"
    path.write_bytes(PACK[packing](FILES[suffix]))
    assert rows(local(str(path))) == ROWS


@pytest.mark.skipif(zstd is None, reason=f"{ZSTD} is not installed")
def test_a_file_of_two_zstandard_frames_is_read_to_its_end(tmp_path: Path) -> None:
    content = FILES[".csv"]
    (tmp_path / "a.csv.zst").write_bytes(zstd.compress(content[:99]) + zstd.compress(content[99:]))
    assert rows(local(f"{tmp_path}/a.csv.zst")) == ROWS


def test_a_bad_row_of_a_compressed_file_has_the_line_of_the_file_in_it(tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress("one\ntwo\ncaf\u00e9".encode("latin1")))
    with pytest.raises(UserError, match=r"a\.txt\.gz, line 3: not UTF-8"):
        rows(local(f"{tmp_path}/a.txt.gz"), "text")


@pytest.mark.parametrize("read", [local, streamed])
@pytest.mark.parametrize("suffix", list(FILES))
def test_a_file_behind_a_url_gives_the_rows_of_the_local_file(
    memory: Callable[..., str], suffix: str, read: Callable[[str], list[Source]]
) -> None:
    location = f"{memory(**{f'pairs{suffix}': FILES[suffix]})}/pairs{suffix}"
    assert rows(read(location)) == ROWS
    assert [source.name for source in read(location)] == [location]


@pytest.mark.parametrize("packing", list(PACK))
@pytest.mark.parametrize("read", [local, streamed])
def test_a_compressed_file_behind_a_url_is_unpacked(
    memory: Callable[..., str], packing: str, read: Callable[[str], list[Source]]
) -> None:
    location = f"{memory(**{f'a.csv{packing}': PACK[packing](FILES['.csv'])})}/a.csv{packing}"
    assert rows(read(location)) == ROWS


def test_a_pattern_streams_files_in_the_order_of_their_names(memory: Callable[..., str]) -> None:
    folder = memory(b_txt=b"second\n", a_txt=b"first\n", c_csv=b"text\nnot read\n")
    assert rows(streamed(f"{folder}/*.txt"), "text") == [("first",), ("second",)]


@pytest.mark.parametrize("pattern", ["a.csv", "*.csv"])
def test_a_file_in_an_archive_is_streamed_through_a_chain_of_urls(tmp_path: Path, pattern: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.csv", FILES[".csv"])
    assert rows(streamed(f"zip://{pattern}::file://{tmp_path}/a.zip")) == ROWS


def test_the_digest_of_a_text_is_that_of_the_local_file(memory: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(FILES[".csv"])
    expected = hashlib.sha256(b".csv\0a\0" + FILES[".csv"]).hexdigest()
    for location in (f"{tmp_path}/a.csv", f"{memory(a_csv=FILES['.csv'])}/a.csv"):
        file = TextFile(location, "a", key="input")
        assert file.digest() == expected and len(file) == len(ROWS)


def test_a_copy_of_a_remote_file_goes_with_its_process(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    script = f"from simcse_lit.text.remote import fetched; print(fetched('file://{tmp_path}/a.txt', key='input'))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=LIMIT_S)
    copy = Path(done.stdout.strip())
    assert copy.name == "a.txt" and copy.parent != tmp_path, done.stderr
    assert not copy.parent.parent.exists()


@pytest.mark.parametrize(("packing", "damage"), [(".gz", 2000), (".xz", 2000), (".bz2", 2000), (".gz", 4)])
def test_a_truncated_file_is_named_with_the_last_line_that_could_be_read(tmp_path: Path, packing: str, damage: int) -> None:
    lines = "".join(f"{hashlib.sha256(bytes([number % 256])).hexdigest()} {number}\n" for number in range(3000))
    (tmp_path / f"a.txt{packing}").write_bytes(PACK[packing](lines.encode())[:-damage])
    read = []
    with pytest.raises(UserError) as caught:
        for row in local(f"{tmp_path}/a.txt{packing}")[0].rows(["text"]):
            read.append(row)
    assert f"{KEY}: {tmp_path}/a.txt{packing}, after line {len(read)}: the file is damaged: " in str(caught.value)
    assert len(read) <= 3000


def test_a_file_that_is_not_compressed_as_its_name_says_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_text("plain\n")
    with pytest.raises(UserError, match=r"a\.txt\.gz, after line 0: the file is damaged: Not a gzipped file"):
        rows(local(f"{tmp_path}/a.txt.gz"), "text")


class Breaking(AbstractFileSystem):  # type: ignore[misc]
    """Files whose connection is lost behind their first 20,000 bytes."""

    protocol = "breaking"
    cachable = False

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        return {"name": path, "size": 50_000, "type": "file"}

    def _open(self, path: str, mode: str = "rb", **options: Any) -> "BreakingFile":
        return BreakingFile(self, path, mode, block_size=1000)


class BreakingFile(AbstractBufferedFile):  # type: ignore[misc]
    def _fetch_range(self, start: int, end: int) -> bytes:
        if end > 20_000:
            raise ConnectionResetError("the connection was reset")
        return (b"nine byte\n" * 5000)[start:end]


def test_a_stream_that_breaks_is_named_with_the_last_line_that_was_read() -> None:
    fsspec.register_implementation("breaking", Breaking, clobber=True)
    read = []
    with pytest.raises(UserError) as caught:
        for row in streamed("breaking://a.txt")[0].rows(["text"]):
            read.append(row)
    assert 0 < len(read) < 2000
    place = f"after line {len(read)}: the stream broke: the connection was reset"
    assert str(caught.value) == f"{KEY}: breaking://a.txt, {place}"
    with pytest.raises(
        UserError, match=r"breaking://a\.parquet: is not a Parquet file, or is damaged: the connection was reset"
    ):
        rows(streamed("breaking://a.parquet"))


def test_what_a_scheme_lacks_is_named_with_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    for read in (local, streamed):
        with pytest.raises(UserError, match=r"data\.train_file: s3://bucket/a\.csv: .*\n.*pip install s3fs"):
            read("s3://bucket/a.csv")


def test_what_zstandard_lacks_is_named_with_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, ZSTD, None)
    (tmp_path / "a.txt.zst").touch()
    with pytest.raises(UserError, match=rf"a\.txt\.zst: .*\n.*pip install {ZSTD}"):
        local(f"{tmp_path}/a.txt.zst")


@pytest.mark.parametrize("read", [local, streamed])
@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("memory://none.txt", "there is no such file"),
        ("nowhere://a.txt", "cannot be read: Protocol not known: nowhere"),
        ("memory://folder", "unknown format ''"),
        ("http://127.0.0.1:9/a.txt", "127.0.0.1:9"),
    ],
)
def test_a_url_that_leads_nowhere_is_named_with_its_key(
    location: str, message: str, read: Callable[[str], list[Source]]
) -> None:
    fsspec.filesystem("memory").pipe("/folder/a.txt", b"text\n")
    with pytest.raises(UserError, match=f"{KEY}: {location}: (.|\n)*{message}"):
        read(location)


def test_a_pattern_that_matches_nothing_is_named() -> None:
    with pytest.raises(UserError, match=r"data\.train_file: memory://none/\*\.txt: there is no such file"):
        streamed("memory://none/*.txt")
