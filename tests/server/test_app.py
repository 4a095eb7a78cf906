"""The server: its API against numpy, what it refuses, requests that share a call of the encoder, and the real command."""

import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient

from simcse_lit.encoding.texts import Settings, vectors
from simcse_lit.errors import UserError
from simcse_lit.formats.loading import LoadedEncoder, load_encoder
from simcse_lit.retrieval.index import Index
from simcse_lit.server.batcher import Batcher, Busy
from tests.conftest import LIMIT_S
from tests.server.served import CORPUS, client_of, config, raw_model, service_of, serving, wait_until_ready


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return raw_model(tmp_path_factory.mktemp("raw"))


@pytest.fixture(scope="module")
def loaded(raw: Path) -> LoadedEncoder:
    return load_encoder(str(raw), revision=None, pooler="avg", projection=None)


@pytest.fixture(scope="module")
def client(loaded: LoadedEncoder) -> Iterator[TestClient]:
    served = config("limits.sentences=8", "limits.matrix=4", "limits.characters=50", "limits.body_mb=0.002")
    service = service_of(loaded, served)
    service.use_corpus(CORPUS, "corpus.txt")
    with client_of(service, served) as made:
        wait_until_ready(made)
        yield made
    service.batcher.close()


def unit(loaded: LoadedEncoder, texts: Sequence[str]) -> np.ndarray:
    return vectors(loaded, texts, Settings(128, 4096, "32-true", normalize=True)).numpy()


def test_vectors_similarities_and_hits_are_those_of_the_encoder(client: TestClient, loaded: LoadedEncoder) -> None:
    sentences = ["A dog.", "Rain.", "A dog."]
    expected = unit(loaded, sentences)
    got = client.post("/api/encode", json={"sentences": sentences}).json()
    np.testing.assert_allclose(got["vectors"], expected, atol=1e-5)
    assert got["dimension"] == 64
    long = np.array(client.post("/api/encode", json={"sentences": sentences, "normalize": False}).json()["vectors"])
    assert not np.allclose(long, expected, atol=0.1)
    np.testing.assert_allclose(long / np.linalg.norm(long, axis=1, keepdims=True), expected, atol=1e-5)
    got = client.post("/api/similarity", json={"sentences": sentences}).json()["similarities"]
    np.testing.assert_allclose(got, expected @ expected.T, atol=1e-5)
    got = client.post("/api/similarity", json={"sentences": sentences, "others": CORPUS}).json()["similarities"]
    np.testing.assert_allclose(got, expected @ unit(loaded, CORPUS).T, atol=1e-5)
    asked = {"queries": ["A dog.", "Rain."], "top_k": 2}
    cosines = expected[:2] @ unit(loaded, CORPUS).T
    for row, hits in zip(cosines, client.post("/api/search", json=asked).json()["results"], strict=True):
        best = np.argsort(-row)[:2]
        assert [hit["text"] for hit in hits] == [CORPUS[place] for place in best]
        assert [hit["id"] for hit in hits] == best.tolist()
        assert [hit["score"] for hit in hits] == pytest.approx(row[best], abs=1e-5)
    between = float(np.sort(cosines[0])[-2:].mean())
    (hits,) = client.post("/api/search", json={"queries": ["A dog."], "threshold": between}).json()["results"]
    assert [hit["text"] for hit in hits] == [CORPUS[int(cosines[0].argmax())]]


def test_health_says_what_is_served(client: TestClient) -> None:
    health = client.get("/health").json()
    assert (health["status"], health["dimension"], health["sentences"], health["device"]) == ("ok", 64, 4, "cpu")
    assert health["corpus"] == {"state": "ready", "name": "corpus.txt", "done": 4, "total": 4, "error": None}
    assert health["limits"]["sentences"] == 8


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("encode", {"sentences": []}, 422, "sentences: is empty"),
        ("encode", {"sentences": ["fine", "  "]}, 422, r"sentences\.1: is blank"),
        ("encode", {"sentences": ["fine"] * 9}, 413, "9 sentences, but at most 8"),
        ("encode", {"sentences": ["a" * 51]}, 413, r"sentences\.0: 51 characters, but at most 50"),
        ("encode", {"sentences": "fine"}, 422, "sentences: Input should be a valid list"),
        ("encode", {"sentences": ["fine", 5]}, 422, r"sentences\.1: Input should be a valid string"),
        ("encode", {}, 422, "sentences: Field required"),
        ("encode", [], 422, "The body: Input should be a valid dict"),
        ("similarity", {"sentences": ["fine"] * 5}, 413, "5 sentences, but at most 4"),
        ("similarity", {"sentences": ["fine"], "others": []}, 422, "others: is empty"),
        ("search", {"queries": ["fine"], "top_k": 0}, 422, "top_k: Input should be greater"),
        ("search", {"queries": ["fine"], "top_k": 1000}, 422, "top_k: Input should be less"),
        ("search", {"queries": ["fine"], "threshold": 2}, 422, "threshold: Input should be less"),
        ("encode", b"", 422, "body: Field required|The body: Field required"),
        ("encode", b"{", 400, "The body is not JSON"),
        ("encode", b'{"sentences": ["\\ud800"]}', 422, r"sentences\.0: holds half of a surrogate pair"),
        ("encode", bytes(range(128, 256)), 400, "body"),
        ("encode", b"\x00\x01\x02", 400, "The body is not JSON"),
        ("encode", b"[" * 1900, 400, "body"),
        ("search", b'{"queries": ["fine"], "threshold": NaN}', 422, "threshold: "),
        ("encode", b" " * 2001, 413, r"longer than 0\.002 MB"),
        ("nowhere", {}, 404, "Not Found"),
    ],
)
def test_what_cannot_be_answered_gets_a_message_and_a_4xx(
    client: TestClient, path: str, body: object, status: int, message: str
) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = client.post(f"/api/{path}", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]
    assert re.search(message, answer.json()["error"]), answer.text


def test_a_body_without_its_header_names_the_header(client: TestClient) -> None:
    refused = client.post("/api/encode", content='{"sentences": ["fine"]}')
    assert refused.status_code == 422
    assert "Content-Type: application/json" in refused.json()["error"]


def test_a_body_in_chunks_is_stopped_at_its_limit(client: TestClient) -> None:
    answer = client.post("/api/encode", content=(b" " * 500 for _ in range(10)))
    assert (answer.status_code, answer.json()) == (413, {"error": "The body is longer than 0.002 MB."})


def test_other_sites_and_other_names_are_refused(client: TestClient) -> None:
    body = {"sentences": ["fine"]}
    assert client.post("/api/encode", json=body, headers={"Origin": "http://127.0.0.1:8000"}).status_code == 200
    assert client.post("/api/encode", json=body, headers={"Origin": "https://evil.example"}).status_code == 403
    assert client.post("/api/encode", json=body, headers={"Origin": "null"}).status_code == 403
    for host in ("127.0.0.1:8000", "localhost:8000", "localhost", "[::1]:8000", "[::1]"):
        assert client.get("/health", headers={"Host": host}).status_code == 200, host
    for host in ("rebound.example", "rebound.example:8000", "127.0.0.1.rebound.example", "[::2]:8000", ""):
        answer = client.get("/health", headers={"Host": host})
        assert (answer.status_code, answer.json()) == (
            400,
            {"error": f"This server does not accept the host name {host!r}."},
        )
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in client.get("/").headers["Content-Security-Policy"]
    assert "default-src 'none'" in client.get("/nowhere").headers["Content-Security-Policy"]


def test_a_saved_index_is_served_if_the_encoder_fits(loaded: LoadedEncoder, tmp_path: Path) -> None:
    Index.build(torch.from_numpy(unit(loaded, CORPUS)), CORPUS, ids=[10, 20, 30, 40]).save(tmp_path / "right")
    Index.build(torch.eye(3), CORPUS[:3]).save(tmp_path / "wrong")
    service = service_of(loaded, config())
    service.use_index(Index.load(tmp_path / "right"), "right")
    (hits,) = client_of(service, config()).post("/api/search", json={"queries": [CORPUS[3]]}).json()["results"]
    assert (hits[0]["id"], hits[0]["text"]) == (40, CORPUS[3])
    with pytest.raises(UserError, match=r"makes vectors of width 64, and the index holds vectors of width 3\."):
        service.use_index(Index.load(tmp_path / "wrong"), "wrong")
    other = torch.nn.functional.normalize(torch.randn(4, 64, generator=torch.Generator().manual_seed(0)), dim=1)
    Index.build(other, CORPUS, model="some/other").save(tmp_path / "other")
    with pytest.raises(UserError, match=r"did not make this index: .*cosine.*built with some/other\."):
        service.use_index(Index.load(tmp_path / "other"), "other")
    with pytest.raises(UserError, match="makes vectors of width 64, and the index holds vectors of width 3"):
        service.use_index(Index.build(torch.empty(0, 3), []), "empty")
    long = ["word " * 500, *CORPUS]  # longer than may wait: the server's own question is no request
    service.use_index(Index.build(torch.from_numpy(unit(loaded, long)), long), "long")
    assert service.progress.name == "long"
    service.batcher.close()


@pytest.mark.parametrize("body", [{"sentences": ["\ud83d"], "others": ["b"]}, {"queries": ["a \udc00"]}, {"\ud83d": 1}])
@pytest.mark.parametrize("path", ["encode", "similarity", "search"])
def test_half_of_a_surrogate_pair_is_refused_wherever_it_stands(client: TestClient, path: str, body: dict[str, Any]) -> None:
    for content in (
        body,
        {**body, "threshold": "\ud83d", "normalize": "\ud83d", "sentences": {"\ud83d": "\ud83d"}},
        "\ud83d",
    ):
        answer = client.post(f"/api/{path}", content=json.dumps(content), headers={"Content-Type": "application/json"})
        assert answer.status_code == 422, answer.text
        assert list(answer.json()) == ["error"]


def test_requests_that_come_while_the_encoder_is_busy_share_its_next_call() -> None:
    free, calls = threading.Event(), []

    def encode(asked: Sequence[tuple[str, str]]) -> torch.Tensor:
        free.wait()
        texts = [text for text, _ in asked]
        calls.append(texts)
        if "bad" in texts:
            raise ValueError("bad")
        return torch.tensor([[float(text)] for text in texts])

    batcher = Batcher(encode, max_waiting=12)
    first = batcher.submit(["0"])
    while batcher._queue.qsize():  # until the thread has taken it
        time.sleep(0.001)
    rest = [batcher.submit([str(place), str(place)]) for place in range(1, 5)]
    bad = batcher.submit(["bad"])
    gone = batcher.submit(["gone"])
    assert gone.cancel()
    with pytest.raises(Busy):
        batcher.submit(["9"] * 2)
    free.set()
    assert first.result().tolist() == [[0.0]]
    assert [future.result().tolist() for future in rest] == [[[float(place)]] * 2 for place in range(1, 5)]
    with pytest.raises(ValueError, match="bad"):
        bad.result()
    assert calls[:2] == [["0"], ["1", "1", "2", "2", "3", "3", "4", "4", "bad"]]
    batcher.close()
    assert not batcher._thread.is_alive() and batcher._waiting == 0


@pytest.mark.parametrize("texts", [["fine"], ["bad"], ["bad", "fine"]])
def test_an_answered_request_counts_as_waiting_no_more(texts: list[str]) -> None:
    free = threading.Event()

    def encode(asked: Sequence[tuple[str, str]]) -> torch.Tensor:
        free.wait()
        if ("bad", "text") in asked:
            raise ValueError("bad")
        return torch.ones(len(asked), 1)

    batcher = Batcher(encode, max_waiting=4)
    batcher.submit(["first"])
    while batcher._queue.qsize():  # until the thread has taken it
        time.sleep(0.001)
    waiting: list[int] = []
    for text in texts:  # the futures tell at once, within the thread
        batcher.submit([text]).add_done_callback(lambda _: waiting.append(batcher._waiting))
    free.set()
    batcher.close()
    assert waiting == list(range(len(texts)))[::-1]


def test_too_many_waiting_requests_are_told_to_come_back(loaded: LoadedEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    served = config("limits.waiting=2")
    service = service_of(loaded, served)
    free = threading.Event()
    encode = service.batcher._encode
    monkeypatch.setattr(service.batcher, "_encode", lambda texts: free.wait() and encode(texts))
    with client_of(service, served) as client, ThreadPoolExecutor() as threads:
        waiting = threads.submit(client.post, "/api/encode", json={"sentences": ["one", "two"]})
        while not service.batcher._waiting:
            time.sleep(0.001)
        refused = client.post("/api/encode", json={"sentences": ["three"]})
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
        free.set()
        assert waiting.result().status_code == 200
        assert client.post("/api/encode", json={"sentences": ["three"]}).status_code == 200
    service.batcher.close()


def test_the_description_of_the_api_names_every_endpoint_and_asks_nobody_else(client: TestClient) -> None:
    described = client.get("/openapi.json").json()
    assert set(described["paths"]) == {"/api/encode", "/api/similarity", "/api/search", "/api/corpus", "/health"}
    assert client.get("/redoc").status_code == 404
    for path in ("/", "/docs", "/static/app.js", "/static/docs.js", "/static/style.css"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert not re.findall(r"""(?:src|href|url|fetch)\s*[=(]\s*["']?(?:https?:)?//""", answer.text), path


def test_the_command_serves_and_stops(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text("\n".join(CORPUS))
    words = (f"checkpoint={raw}", "pooler=avg", "corpus=corpus.txt")
    with serving(tmp_path, *words) as (process, address):
        (hits,) = httpx.post(f"{address}/api/search", json={"queries": [CORPUS[0]]}).json()["results"]
        assert hits[0]["text"] == CORPUS[0]
        again = [sys.executable, "-m", "simcse_lit.serve", *words, f"port={address.rpartition(':')[2]}"]
        taken = subprocess.run(again, capture_output=True, text=True, cwd=tmp_path)
        assert taken.returncode == 1
        assert "cannot listen there: Address already in use" in taken.stderr
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT_S) == 130
        assert process.stderr is not None and "Traceback" not in process.stderr.read()
