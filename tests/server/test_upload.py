"""A corpus that is uploaded to the server: what is taken and searched, and what is refused."""

import io
import json
import random
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from simcse_lit.formats.loading import LoadedEncoder, load_encoder
from tests.server.served import CORPUS, client_of, config, raw_model, service_of, wait_until_ready


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedEncoder:
    folder = raw_model(tmp_path_factory.mktemp("raw"))
    return load_encoder(str(folder), revision=None, pooler="avg", projection=None)


def table_bytes() -> bytes:
    buffer = io.BytesIO()
    parquet.write_table(pa.table({"text": CORPUS, "number": [1, 2, 3, 4]}), buffer)
    return buffer.getvalue()


def test_an_uploaded_corpus_is_searched_once_it_is_ready(loaded: LoadedEncoder) -> None:
    served = config("limits.corpus=5", "limits.characters=50", "limits.upload_mb=0.01", "corpus=null")
    service = service_of(loaded, served)
    client = client_of(service, served)
    assert client.get("/health").json()["corpus"]["state"] == "empty"
    nothing = client.post("/api/search", json={"queries": ["A dog."]})
    assert (nothing.status_code, "Upload a corpus" in nothing.json()["error"]) == (409, True)
    for name, content, asked in (
        ("one.txt", "\r\n".join(CORPUS).encode(), ""),
        ("two.csv", b"number,text\n" + b"".join(b'1,"%s"\n' % text.encode() for text in CORPUS), "&column=text"),
        ("three.parquet", table_bytes(), "&column=text"),
        ("five.txt", "\n".join(CORPUS).encode("utf-16"), ""),
        ("six.json", json.dumps([{"text": text} for text in CORPUS], indent=1).encode(), ""),
        ("<b>four</b>.jsonl", b"".join(json.dumps({"text": text}).encode() + b"\n" for text in CORPUS), ""),
    ):
        answer = client.put(f"/api/corpus?name={name}{asked}", content=content)
        assert (answer.status_code, answer.json()) == (202, {"sentences": 4}), answer.text
        assert wait_until_ready(client)["corpus"]["name"] == Path(name).name
        (hits,) = client.post("/api/search", json={"queries": [CORPUS[2]], "top_k": 1}).json()["results"]
        assert hits == [{"id": 2, "text": CORPUS[2], "score": pytest.approx(1, abs=1e-5)}]
    for name, content, status, message in (
        ("a.exe", b"x", 415, "a.exe: unknown format '.exe'. Known formats: .txt"),
        ("a.txt", b" \n ", 400, "a.txt: the file is empty"),
        ("a.txt", b"\x00\x01", 400, "a.txt: has zero bytes, so it is not a text file"),
        ("a.txt", b"caf\xe9", 400, "corpus: a.txt, line 1: not UTF-8"),
        ("a.txt", b"fine\n\nfine\n", 400, "corpus: 1 row cannot be used:\n  a.txt, line 2: text is blank"),
        ("a.txt", b"fine\n" * 6, 413, "a.txt: 6 sentences, but at most 5"),
        ("a.txt", b"fine\n" + b"a" * 51, 400, "line 2: 51 characters, but at most 50"),
        ("a.txt", b"a\n" * 6000, 413, "longer than 0.01 MB"),
        ("a.csv", b"one,two\n1,2\n", 400, "column: a.csv has several columns: one, two"),
        ("a.csv", b'text\n"unclosed\n', 400, "malformed CSV"),
        ("a.jsonl", b"nonsense\n", 400, "not JSON"),
        ("a.parquet", b"nonsense", 400, "not a Parquet file"),
        ("../../a.txt%00", b"x", 415, "unknown format"),
    ):
        answer = client.put(f"/api/corpus?name={name}", content=content)
        assert answer.status_code == status, answer.text
        assert message in answer.json()["error"]
        assert "/tmp" not in answer.json()["error"]
    assert client.put("/api/corpus", content=b"x").json() == {"error": "name: Field required."}
    (hits,) = client.post("/api/search", json={"queries": [CORPUS[2]], "top_k": 1}).json()["results"]
    assert hits[0]["text"] == CORPUS[2]
    service.batcher.close()


def test_upload_false_takes_no_corpus(loaded: LoadedEncoder) -> None:
    served = config("upload=false")
    service = service_of(loaded, served)
    client = client_of(service, served)
    assert client.put("/api/corpus?name=a.txt", content=b"x").status_code == 404
    assert "/api/corpus" not in client.get("/openapi.json").json()["paths"]
    service.batcher.close()


def damaged_table() -> bytes:
    """A table whose head and metadata are sound, and whose page is not."""
    whole = table_bytes()
    return whole[:4] + b"\xff" * 60 + whole[64:]


def bomb(texts: pa.Array, **options: Any) -> bytes:
    buffer = io.BytesIO()
    parquet.write_table(pa.table({"text": texts}), buffer, compression="zstd", **options)
    return buffer.getvalue()


def test_an_upload_that_is_more_than_it_seems_or_broken_is_refused_before_it_is_read(
    loaded: LoadedEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = config("limits.corpus=500", "limits.characters=50", "limits.upload_mb=0.1", "corpus=null")
    service = service_of(loaded, served)
    client = client_of(service, served)
    many = bomb(pa.array(["the same sentence"] * 5_000_000))
    repeated = bomb(pa.DictionaryArray.from_arrays(pa.array([0] * 400, pa.int32()), ["x" * 90_000]).cast(pa.string()))
    long = bomb(pa.array(["fine", "x" * 20_000_000]))
    assert max(map(len, (many, repeated, long))) < 100_000
    for name, content, status, message in (
        ("a.parquet", many, 413, "a.parquet: 5,000,000 sentences, but at most 500 are allowed"),
        ("a.parquet", repeated, 400, "line 1: 90,000 characters, but at most 50 are allowed"),
        ("a.parquet", long, 413, "a.parquet: 20.0 MB uncompressed, but at most 0.1 MB are allowed"),
        ("a.parquet", damaged_table(), 400, "a.parquet"),
        ("a.parquet", table_bytes()[:-30] + table_bytes()[-8:], 400, "a.parquet: is not a Parquet file"),
        ("a.parquet", table_bytes()[:-8], 400, "a.parquet: is not a Parquet file"),
        ("a.parquet", bomb(pa.array([[1], [2]])), 400, "column text is not text (list<element: int64>)"),
        ("a.jsonl", b'{"text": "half \\ud83d"}\n', 400, "a.jsonl, line 1: text holds half of a surrogate pair"),
        ("a.jsonl", b'{"text": "fine"}\n{"text": "\\udc00"}\n', 400, "line 2: text holds half of a surrogate pair"),
        ("a.jsonl", b'{"\\ud83d": "fine", "b": "fine"}\n', 400, "column: a.jsonl has several"),
        ("a.jsonl", b'{"\\ud83d": 5}\n', 400, "is not text"),
    ):
        answer = client.put(f"/api/corpus?name={name}{'&column=text' if name == 'a.parquet' else ''}", content=content)
        assert answer.status_code == status, answer.text
        assert message in answer.json()["error"] and len(answer.json()["error"]) < 400
        assert "/tmp" not in answer.json()["error"]
    strings = pa.array([*CORPUS, CORPUS[0]])
    for texts in (strings, strings.cast(pa.large_string()), strings.dictionary_encode(), strings.cast(pa.string_view())):
        assert client.put("/api/corpus?name=a.parquet", content=bomb(texts)).json() == {"sentences": 5}
        wait_until_ready(client)
    service.batcher.close()


def test_no_damage_to_an_uploaded_table_is_the_servers_fault(loaded: LoadedEncoder) -> None:
    served = config("corpus=null")
    service = service_of(loaded, served)
    client = client_of(service, served)
    whole, draw = table_bytes(), random.Random(0)
    answers = set()
    for _ in range(200):
        damaged = bytearray(whole)
        for _ in range(draw.choice((1, 1, 8))):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        answers.add(client.put("/api/corpus?name=a.parquet&column=text", content=bytes(damaged)).status_code)
        while service.progress.state == "encoding":
            time.sleep(0.001)
    assert answers == {202, 400}  # what was hit may be a letter of a text
    service.batcher.close()
